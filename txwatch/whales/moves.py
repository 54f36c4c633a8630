"""`whale_moves` in Postgres: one row for a whale, kept for good. Its flow follows what labels say by now."""

from collections.abc import Mapping, Sequence
from itertools import islice

from psycopg.types.json import Jsonb

from txwatch.labels.flows import flow_of
from txwatch.labels.store import read_known
from txwatch.store.database import Connection
from txwatch.store.reading import read_named_transactions
from txwatch.store.sql import statement
from txwatch.wire.transaction import Transaction

_AT_ONCE = 2_000


def record_whales(connection: Connection, moved_sat: Mapping[str, int]) -> None:
    """Record whales by txid, each with what it likely moved, in the caller's transaction that landed them.

    Recording one again gives it the flow that labels say by now.
    """
    remaining = iter(moved_sat)
    while txids := list(islice(remaining, _AT_ONCE)):
        _record(connection, read_named_transactions(connection, txids), moved_sat)


def reclassify_whales(connection: Connection) -> None:
    """Give all whales whose transactions are still stored the flow that labels say by now."""
    rows = connection.execute("SELECT txid, moved_sat FROM whale_moves ORDER BY txid").fetchall()
    record_whales(connection, dict(rows))


def _record(connection: Connection, transactions: Sequence[Transaction], moved_sat: Mapping[str, int]) -> None:
    known = read_known(connection, {address for tx in transactions for address in tx.addresses})
    moves = []
    for tx in transactions:
        flow = flow_of(
            [(spent.addr, spent.value or 0) for spent in tx.inputs], [(o.addr, o.value) for o in tx.outputs], known
        )
        moves.append(
            {
                "txid": tx.txid,
                "seen_at": tx.seen_at.isoformat(),
                "moved_sat": moved_sat[tx.txid],
                "flow": flow.kind,
                "senders": flow.senders,
                "receivers": flow.receivers,
                "sources": flow.sources,
            }
        )
    connection.execute(statement(__file__, "record_whales"), {"moves": Jsonb(moves)})
