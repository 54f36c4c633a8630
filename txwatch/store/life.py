"""What became of a transaction before a block took it: which coins it spends, and that it was replaced or dropped."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from txwatch.store.database import Connection, statement
from txwatch.wire.transaction import Transaction


class Removal(msgspec.Struct, frozen=True, gc=False):
    """A transaction left a source's mempool without a block; `replaced_by` is the txid in its place, if known."""

    txid: str
    source: str
    at: datetime
    replaced_by: str | None = None


def land_spends(connection: Connection, transactions: Sequence[Transaction]) -> None:
    """Note which coins these transactions spend, as far as their sources tell which transaction made a coin.

    A coin that another transaction spends too is noted as contested.
    """
    rows = []
    for tx in transactions:
        end = f"\t{tx.txid}\t{tx.seen_at}\n"
        rows += [f"{coin.txid}\t{coin.n}{end}" for coin in tx.inputs if coin.txid is not None]
    if not rows:
        return
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS staged_spends ON COMMIT DELETE ROWS AS SELECT * FROM spends WITH NO DATA"
    )
    with connection.cursor().copy("COPY staged_spends FROM STDIN") as copy:
        copy.write("".join(rows).encode())
    connection.execute("INSERT INTO spends SELECT * FROM staged_spends ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING")
    connection.execute(statement("store", "note_contested"))


def record_removals(connection: Connection, removals: Sequence[Removal]) -> None:
    """Record removals that are not known yet. Landing the same ones again changes nothing."""
    connection.cursor().executemany(
        "INSERT INTO removals (txid, source, removed_at, replaced_by)"
        " VALUES (%(txid)s, %(source)s, %(at)s, %(replaced_by)s) ON CONFLICT DO NOTHING",
        [msgspec.structs.asdict(one) for one in removals],
    )
