"""Find what a person types: the beginning of a txid, an address, or whom an address belongs to."""

import re
from dataclasses import dataclass
from datetime import datetime

from txwatch.queries.paging import read_rows
from txwatch.store.database import Connection, statement
from txwatch.wire.messages import MAX_SUPPLY_SAT, SAT_PER_BTC

LEAST_DIGITS, LEAST_LETTERS = 6, 2
MOST_WINDOWS = 48
"""Newest windows of an address whose transactions are looked through: four hours, if each has some."""
AMONG = 500_000
"""Newest transactions that are looked through for an amount, which no index has: about a day."""
_TXID = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},64}}")
_ADDRESS = re.compile(r"[13mn2][1-9A-HJ-NP-Za-km-z]{24,34}|(bc|tb|bcrt)1[02-9ac-hj-np-z]{11,87}")
_AMOUNT = r"(\d[\d,]{0,11}(?:\.\d{1,8})?)"
_AMOUNTS = re.compile(rf"{_AMOUNT}\s*(?:-|\.\.|to)\s*{_AMOUNT}\s*btc", re.IGNORECASE)


@dataclass(frozen=True)
class FoundTransaction:
    """A transaction whose id begins as asked for. Total output in satoshi."""

    txid: str
    seen_at: datetime
    value_sat: int
    alerted: bool


@dataclass(frozen=True)
class FoundAddress:
    """An address that a label or the watch list names; `entity` is None if only the watch list does."""

    address: str
    entity: str | None
    category: str | None
    source: str | None
    watched: str | None


@dataclass(frozen=True)
class FoundEntity:
    """An entity of labels, how many addresses are known of it, and who says so."""

    entity: str
    categories: list[str]
    addresses: int
    sources: list[str]


@dataclass(frozen=True)
class AddressTransaction:
    """A transaction of an address: what it was paid and what was spent from it, in satoshi."""

    txid: str
    seen_at: datetime
    received_sat: int
    spent_sat: int
    fee_sat: int | None
    alerted: bool


@dataclass(frozen=True)
class Found:
    """All that was found, each at most twenty."""

    transactions: list[FoundTransaction]
    addresses: list[FoundAddress]
    entities: list[FoundEntity]
    of_address: list[AddressTransaction]
    """The newest first."""


def amounts(text: str) -> tuple[int, int] | None:
    """The least and the most of a range of amounts such as `12.5-13 BTC`, in satoshi; None for any other text."""
    written = _AMOUNTS.fullmatch(text.strip())
    if written is None:
        return None
    least, most = (round(float(written[place].replace(",", "")) * SAT_PER_BTC) for place in (1, 2))
    return (least, most) if least <= most <= MAX_SUPPLY_SAT else None


def address_in(text: str) -> str | None:
    """The address that a text is by its form, as the sources write it; None for any other text."""
    return next((written for written in (text, text.lower()) if _ADDRESS.fullmatch(written)), None)


def is_txid(text: str) -> bool:
    """Whether it is a whole txid."""
    return len(text) == 64 and _TXID.fullmatch(text) is not None


def find(connection: Connection, text: str, now: datetime) -> Found:
    """What there is for a text: six digits of a txid, an address, `12.5-13 BTC`, or a part of a name, in any case.

    Amounts are looked for among the AMONG newest transactions. Of an address the transactions of the last quarter of an
    hour are found, and those of the MOST_WINDOWS newest windows in which it was active; of older ones the activity is
    removed with the days that retention drops.
    """
    text = text.replace("\0", "").strip()  # which Postgres does not take
    given: dict[str, object] = {"text": text, "prefix": text.lower(), "now": now, "windows": MOST_WINDOWS}
    return Found(
        _transactions(connection, text, given),
        read_rows(connection, FoundAddress, statement("queries", "find_addresses"), given) if text else [],
        read_rows(connection, FoundEntity, statement("queries", "find_entities"), given)
        if len(text) >= LEAST_LETTERS
        else [],
        read_rows(connection, AddressTransaction, statement("queries", "transactions_of_address"), given)
        if address_in(text)
        else [],
    )


def _transactions(connection: Connection, text: str, given: dict[str, object]) -> list[FoundTransaction]:
    """By the beginning of a txid, or by the range of amounts."""
    if _TXID.fullmatch(text.lower()):
        return read_rows(connection, FoundTransaction, statement("queries", "find_transactions"), given)
    if (between := amounts(text)) is None:
        return []
    bounds = {"least": between[0], "most": between[1], "among": AMONG}
    return read_rows(connection, FoundTransaction, statement("queries", "find_amounts"), bounds)
