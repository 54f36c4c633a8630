"""What each address did: a bucket for each window in which it took part, summed into a trailing day.

What recovered data contradict is superseded under a new publication number. Contexts published before still sum the old
bucket, so that their scores can be computed again.

The buckets of a window need no other window, and those of an address no other address. So several connections share the
work: many windows by time, and fewer than there are connections by a hash of the address. No row says which of them
wrote it: their number may change at any time.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from psycopg import sql

from txwatch.clock import WINDOW
from txwatch.features.context import AddressActivity, NetworkContext
from txwatch.features.publications import Publication, part_of, publishing
from txwatch.store.database import Connection, statement
from txwatch.store.retention import ensure_days

COUNTED_AT_ONCE = timedelta(hours=1)
"""An hour of coins is grouped in memory; a day would spill to disk."""


@dataclass(frozen=True)
class Part:
    """The buckets that one connection writes: of the windows in [start, end), and one of so many shards of addresses.

    An address belongs to the shard that PostgreSQL's 64-bit hash of it names, modulo the number of shards.
    """

    start: datetime
    end: datetime
    shard: int = 0
    shards: int = 1


@dataclass(frozen=True)
class Changes:
    """How many buckets were written, by window, and the windows in which buckets were superseded."""

    written: Mapping[datetime, int]
    superseded: frozenset[datetime]


def write_address_activity(
    connections: Sequence[Connection], start: datetime, end: datetime
) -> Iterator[tuple[datetime, Mapping[datetime, int]]]:
    """Bring the buckets of the windows in [start, end) to what the transactions say, an hour a connection at a time.

    Each time is one publication; gives its end, and how many buckets it wrote, by window, where any were. Of several
    connections each writes a part in a database transaction of its own: contexts sum all parts or none.
    """
    ensure_days(connections[0], "address_activity", start, end)
    while start < end:
        stop = min(start + len(connections) * COUNTED_AT_ONCE, end)
        yield stop, _publish(connections, split(start, stop, len(connections)), durable=stop == end)
        start = stop


def split(start: datetime, end: datetime, count: int) -> list[Part]:
    """As many parts of the windows in [start, end): by time, or where there are fewer windows, by address."""
    windows = (end - start) // WINDOW
    if windows < count:
        return [Part(start, end, shard, count) for shard in range(count)]
    edges = [start + i * windows // count * WINDOW for i in range(count + 1)]
    return [Part(*span) for span in pairwise(edges)]


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


def _publish(connections: Sequence[Connection], parts: Sequence[Part], *, durable: bool) -> dict[datetime, int]:
    """Write these parts under one number, each on the connection at its place. The first one commits last."""
    first, *others = connections
    start, end = parts[0].start, parts[-1].end
    with publishing(first, start, end, shared=bool(others), durable=durable) as one:
        with ThreadPoolExecutor(max(len(others), 1)) as beside:
            begun = [beside.submit(_write_beside, *each, one) for each in zip(others, parts[1:], strict=True)]
            changes = [_write(first, parts[0], one.number), *(part.result() for part in begun)]
        written: Counter[datetime] = Counter()
        for change in changes:
            written.update(change.written)
        changed = written.keys() | frozenset[datetime]().union(*(change.superseded for change in changes))
        first.execute(
            statement("features", "mark_windows"),
            {"start": start, "end": end, "publication": one.number, "changed": list(changed)},
        )
    return dict(written)


def _write_beside(connection: Connection, part: Part, publication: Publication) -> Changes:
    with part_of(connection, publication):
        return _write(connection, part, publication.number)


_COLUMNS = sql.SQL("address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at")
_INSERT = sql.SQL(
    "WITH written AS (INSERT INTO address_activity ({columns}, written)"
    " SELECT {columns}, %(publication)s FROM ({buckets}) RETURNING window_start)"
    " SELECT window_start, count(*) FROM written GROUP BY window_start"
)


def _write(connection: Connection, part: Part, number: int) -> Changes:
    span = asdict(part) | {"publication": number}
    buckets = sql.SQL(statement("features", "address_activity"))
    connection.execute("SET LOCAL work_mem = '64MB'")
    known = connection.execute(
        "SELECT FROM address_windows WHERE window_start >= %s AND window_start < %s LIMIT 1", [part.start, part.end]
    ).rowcount
    if not known:
        inserted = connection.execute(_INSERT.format(columns=_COLUMNS, buckets=buckets), span)
        return Changes(dict(inserted.fetchall()), frozenset())
    connection.execute(sql.SQL("CREATE TEMP TABLE staged_activity AS {}").format(buckets), span)
    superseded = frozenset(row[0] for row in connection.execute(statement("features", "supersede_activity"), span))
    written = dict(connection.execute(statement("features", "insert_staged_activity"), span).fetchall())
    connection.execute("DROP TABLE staged_activity")
    return Changes(written, superseded)
