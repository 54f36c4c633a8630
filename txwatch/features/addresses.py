"""What each address did: a bucket for each window in which it took part, summed into a trailing day.

What recovered data contradict is superseded under a new publication number. Contexts published before still sum the old
bucket, so that their scores can be computed again.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

from psycopg import sql

from txwatch.features.context import AddressActivity, NetworkContext
from txwatch.features.network import next_publication
from txwatch.store.database import Connection, commit_without_waiting, statement
from txwatch.store.retention import ensure_days

COUNTED_AT_ONCE = timedelta(hours=1)
"""An hour of coins is grouped in memory; a day would spill to disk."""

_COLUMNS = sql.SQL("address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at")
_INSERT = sql.SQL(
    "WITH written AS (INSERT INTO address_activity ({columns}, written)"
    " SELECT {columns}, %(publication)s FROM ({buckets}) RETURNING window_start)"
    " SELECT window_start, count(*) FROM written GROUP BY window_start"
)


def write_address_activity(connection: Connection, start: datetime, end: datetime) -> Iterator[Mapping[datetime, int]]:
    """Bring the buckets of the windows in [start, end) to what the transactions say, an hour at a time.

    Each hour is one database transaction; gives how many buckets were written, by window, where any were.
    """
    ensure_days(connection, "address_activity", start, end)
    while start < end:
        stop = min(start + COUNTED_AT_ONCE, end)
        with connection.transaction():
            if stop < end:
                commit_without_waiting(connection)
            written = _write(connection, start, stop)
        yield written
        start = stop


def read_address_context(
    connection: Connection, network: NetworkContext, addresses: Collection[str]
) -> dict[str, AddressActivity]:
    """The trailing day of these addresses, as the network's context was published. Those without any are absent."""
    if network.version == 0:
        return {}
    rows = connection.execute(
        statement("features", "address_context"),
        {"as_of": network.as_of, "publication": network.publication, "addresses": list(addresses)},
    )
    return {row[0]: AddressActivity(*row[1:]) for row in rows}


def _write(connection: Connection, start: datetime, end: datetime) -> dict[datetime, int]:
    span = {"start": start, "end": end, "publication": next_publication(connection)}
    buckets = sql.SQL(statement("features", "address_activity"))
    connection.execute("SET LOCAL work_mem = '64MB'")
    known = connection.execute(
        "SELECT FROM address_windows WHERE window_start >= %s AND window_start < %s LIMIT 1", [start, end]
    ).rowcount
    superseded = 0
    if known:
        connection.execute(sql.SQL("CREATE TEMP TABLE staged_activity AS {}").format(buckets), span)
        superseded = connection.execute(statement("features", "supersede_activity"), span).rowcount
        insert = sql.SQL(statement("features", "insert_staged_activity")).format()
    else:
        insert = _INSERT.format(columns=_COLUMNS, buckets=buckets)
    written = dict(connection.execute(insert, span).fetchall())
    connection.execute("DROP TABLE IF EXISTS staged_activity")
    if superseded or written or not known:
        connection.execute(statement("features", "mark_windows"), span)
    return written
