"""What was done with coins of regtest, written down before it is done, and how much of it the database was told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from txwatch.clock import utc_now
from txwatch.store.database import Connection, scalar, statement

NODES = "bitcoin-core%"
"""The names of nodes that are followed, as a pattern of SQL."""


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A transaction was sent. `parents` are unconfirmed transactions whose coins it spends."""

    txid: str
    parents: tuple[str, ...] = ()


class Replaced(msgspec.Struct, frozen=True, tag="replaced"):
    """Another transaction took its place: `redirected` if that one does not pay whom it paid."""

    txid: str
    by: str
    redirected: bool = False


class DoubleSpent(msgspec.Struct, frozen=True, tag="double spent"):
    """Two nodes each held another spend of one coin."""

    one: str
    other: str


class Mined(msgspec.Struct, frozen=True, tag="mined"):
    """A block, and what it holds beside its coinbase."""

    hash: str
    txids: tuple[str, ...]


class Unmined(msgspec.Struct, frozen=True, tag="unmined"):
    """A block left the chain of a node."""

    hash: str


Fact = Sent | Replaced | DoubleSpent | Mined | Unmined
_T = TypeVar("_T", bound=Fact)


class _Noted(msgspec.Struct, frozen=True):
    """A line of the file: a fact, and when it was written down, UTC."""

    at: datetime
    fact: Fact


_line = msgspec.json.Decoder(_Noted)


class PlantedFile:
    """Facts with their moments, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, fact: Fact) -> None:
        """Add one, now."""
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(_Noted(utc_now(), fact)) + b"\n")

    def read(self, without_last: timedelta = timedelta(0)) -> list[Fact]:
        """The facts in their order, but for those of the last so long before the last one; none without a file."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        noted = [_line.decode(line) for line in lines]
        return [one.fact for one in noted if one.at <= noted[-1].at - without_last]


@dataclass(frozen=True)
class Account:
    """How many of a kind were planted, and how many of them the database was told."""

    planted: int
    told: int


def read_accounts(connection: Connection, facts: Sequence[Fact]) -> dict[str, Account]:
    """What the database was told of these facts, by kind.

    `unconfirmed_parents` are pairs of a transaction and one whose coin it spends; `redirected` replacements and double
    spends are told by an alert. `confirmations` are those by blocks that stayed in the chain; the others are in
    `reorganised_blocks`. What was planted lately may not be told yet: a block is read when Dagster asks for it.
    """
    sent, replaced = _of(facts, Sent), _of(facts, Replaced)
    double_spent, unmined = _of(facts, DoubleSpent), {fact.hash for fact in _of(facts, Unmined)}
    children = [(parent, fact.txid) for fact in sent for parent in fact.parents]
    confirmed = [(txid, fact.hash) for fact in _of(facts, Mined) if fact.hash not in unmined for txid in fact.txids]
    of_kind: dict[str, list[tuple[str, str]]] = {
        "told_transactions": [(fact.txid, "") for fact in sent],
        "told_unconfirmed_parents": children,
        "told_replacements": [(fact.txid, fact.by) for fact in replaced],
        "told_redirected": [(fact.by, "") for fact in replaced if fact.redirected],
        "told_double_spends": [(fact.one, fact.other) for fact in double_spent],
        "told_confirmations": confirmed,
        "told_reorganised_blocks": [(block_hash, "") for block_hash in unmined],
    }
    accounts = {}
    for query, pairs in of_kind.items():
        given = {"one": [one for one, _ in pairs], "other": [other for _, other in pairs], "nodes": NODES}
        told = scalar(connection, statement("lab/regtest", query), given)
        accounts[query.removeprefix("told_")] = Account(len(pairs), int(told))
    return accounts


def _of(facts: Iterable[Fact], kind: type[_T]) -> list[_T]:
    return [fact for fact in facts if isinstance(fact, kind)]
