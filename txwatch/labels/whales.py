"""Whales in Postgres, kept for good: by flow, entity and time, and what flowed in and out of whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from txwatch.labels.flows import FlowClass, flow_of
from txwatch.labels.label import Known
from txwatch.labels.store import read_known
from txwatch.store.database import Connection, read_rows, statement
from txwatch.store.transactions import read_named_transactions
from txwatch.wire.transaction import Transaction

_AT_ONCE = 2_000


def record_whales(connection: Connection, moved_sat: Mapping[str, int]) -> None:
    """Record whales by txid, each with what it likely moved, in the caller's transaction.

    One that is recorded gets its flow by the labels of now.
    """
    txids = list(moved_sat)
    for start in range(0, len(txids), _AT_ONCE):
        transactions = read_named_transactions(connection, txids[start : start + _AT_ONCE])
        known = read_known(connection, {address for tx in transactions for address in tx.addresses})
        moves = [_move(tx, moved_sat[tx.txid], known) for tx in transactions]
        connection.execute(statement("labels", "record_whales"), {"moves": Jsonb(moves)})


def reclassify_whales(connection: Connection) -> None:
    """Give all whales whose transactions are still stored their flow by the labels of now."""
    rows = connection.execute("SELECT txid, moved_sat FROM whale_moves ORDER BY txid").fetchall()
    record_whales(connection, dict(rows))


def _move(tx: Transaction, moved_sat: int, known: Mapping[str, Known]) -> dict[str, Any]:
    inputs, outputs = [(spent.addr, spent.value or 0) for spent in tx.inputs], [(o.addr, o.value) for o in tx.outputs]
    flow = flow_of(inputs, outputs, known)
    return {
        "txid": tx.txid,
        "seen_at": tx.seen_at.isoformat(),
        "moved_sat": moved_sat,
        "flow": flow.kind,
        "senders": flow.senders,
        "receivers": flow.receivers,
        "sources": flow.sources,
    }


@dataclass(frozen=True)
class RecordedWhale:
    """A large value that likely changed hands, in satoshi, and between whom by labels, of `sources`.

    None is what retention has removed, and what no price was known of: `usd_price` is that of a bitcoin then.
    """

    txid: str
    seen_at: datetime
    moved_sat: int
    flow: FlowClass
    senders: list[str]
    receivers: list[str]
    sources: list[str]
    value_sat: int | None
    fee_sat: int | None
    confirmed_height: int | None
    moved_usd: float | None
    usd_price: float | None


@dataclass(frozen=True)
class FlowTotal:
    """Whales of one flow: how many, and what they moved in all, in satoshi."""

    flow: FlowClass
    count: int
    moved_sat: int


@dataclass(frozen=True)
class EntityTotal:
    """What whales brought to and took from one entity, in satoshi, moves within it left out."""

    entity: str
    received_sat: int
    sent_sat: int
    count: int


def list_whale_moves(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    flow: FlowClass | None = None,
    entity: str | None = None,
    min_moved_sat: int = 0,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[RecordedWhale]:
    """Whales seen in [since, until), the newest first. `before` is time and txid of the last row of the page before.

    `entity` is one of those that paid or were paid, by the name that labels give it.
    """
    moment, txid = before or (None, None)
    values = {"since": since, "until": until, "flow": flow, "entity": entity, "least": min_moved_sat, "limit": limit}
    values |= {"before": moment, "before_txid": txid}
    return read_rows(connection, RecordedWhale, statement("labels", "list_whale_moves"), values)


def largest_whale_moves(connection: Connection, since: datetime, limit: int = 10) -> list[RecordedWhale]:
    """The whales seen since a moment that moved most, moves within one entity left out."""
    values = {"since": since, "limit": limit}
    return read_rows(connection, RecordedWhale, statement("labels", "largest_whale_moves"), values)


def flow_totals(connection: Connection, since: datetime, until: datetime) -> list[FlowTotal]:
    """What whales seen in [since, until) moved, by flow, the largest first."""
    values = {"since": since, "until": until}
    return read_rows(connection, FlowTotal, statement("labels", "flow_totals"), values)


def entity_totals(connection: Connection, since: datetime, until: datetime, limit: int = 50) -> list[EntityTotal]:
    """What whales seen in [since, until) brought to and took from labelled entities, the largest in all first.

    What several entities took part in counts for each of them.
    """
    values = {"since": since, "until": until, "limit": limit}
    return read_rows(connection, EntityTotal, statement("labels", "entity_totals"), values)
