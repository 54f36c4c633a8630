"""What became of a transaction before a block took it: which coins it spends, and that it was replaced or dropped."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from txwatch.store.database import Connection, statement
from txwatch.store.sightings import Sighting
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
    rows = [
        f"{coin.txid}\t{coin.n}\t{tx.txid}\t{tx.seen_at}\n"
        for tx in transactions
        for coin in tx.inputs
        if coin.txid is not None
    ]
    if not rows:
        return
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS staged_spends ON COMMIT DELETE ROWS AS SELECT * FROM spends WITH NO DATA"
    )
    with connection.cursor().copy("COPY staged_spends FROM STDIN") as copy:
        copy.write("".join(rows).encode())
    connection.execute("INSERT INTO spends SELECT * FROM staged_spends ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING")
    connection.execute(statement("store", "note_contested"))


def record_removals(connection: Connection, removals: Sequence[Removal], sightings: Sequence[Sighting]) -> None:
    """Record removals that are not known yet, but for those after which the source saw the transaction again.

    Landing the same ones again changes nothing.
    """
    connection.cursor().executemany(
        "INSERT INTO removals (txid, source, removed_at, replaced_by)"
        " VALUES (%(txid)s, %(source)s, %(at)s, %(replaced_by)s) ON CONFLICT DO NOTHING",
        [msgspec.structs.asdict(one) for one in removals],
    )
    if sightings:
        connection.execute(
            "DELETE FROM removals USING unnest(%(txids)s::text[], %(sources)s::text[], %(seen_at)s::timestamptz[])"
            " AS again (txid, source, seen_at)"
            " WHERE removals.txid = again.txid AND removals.source = again.source AND removed_at < again.seen_at",
            {
                "txids": [one.txid for one in sightings],
                "sources": [one.source for one in sightings],
                "seen_at": [one.seen_at for one in sightings],
            },
        )
