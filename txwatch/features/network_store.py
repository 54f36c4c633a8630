"""`network_baseline` in Postgres: a bucket and the context as of it, for each window, never changed once published.

A window that is materialized again writes a new version, and only if something differs.
"""

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from txwatch.features.context import NetworkContext
from txwatch.features.network import NetworkBucket, NetworkColumns, network_buckets, network_contexts
from txwatch.features.publication import next_publication
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.windows import WINDOW, window_range

_CONTEXT_COLUMNS = [
    field.name for field in fields(NetworkContext) if field.name not in {"as_of", "version", "publication"}
]
_DAY = timedelta(hours=24)


def publish_network_baseline(connection: Connection, start: datetime, end: datetime) -> list[NetworkContext]:
    """Count the windows in [start, end), and publish the context as of each. Returns the newest version of each.

    One database transaction. A context that was published stays as it is; a new version is written only where the
    traffic or the address buckets of its trailing day differ from what was known then.
    """
    windows = window_range(start, end)
    with connection.transaction():
        publication = next_publication(connection)
        buckets = _count_windows(connection, windows)
        contexts = network_contexts(_read_buckets(connection, start + WINDOW - _DAY, start) + buckets, windows)
        published = _read_published(connection, start, end)
        rewritten = _rewritten_activity(connection, start, end) if published else {}
        changed = []
        for i, (bucket, context) in enumerate(zip(buckets, contexts, strict=True)):
            row = _row(bucket, context)
            before = published.get(context.as_of)
            if before is not None and _still_holds(before, row, rewritten):
                version, known = before["context_version"], before["publication"]
            else:
                version, known = (before["context_version"] if before else 0) + 1, publication
                changed.append(
                    row | {"window_start": context.as_of, "context_version": version, "publication": publication}
                )
            contexts[i] = replace(context, version=version, publication=known)
        with connection.cursor() as cursor:
            cursor.executemany(statement(__file__, "insert_network_baseline"), changed)
    return contexts


def read_network_contexts(
    connection: Connection, as_of: list[datetime], version: int | None = None
) -> dict[datetime, NetworkContext]:
    """The newest version of the context as of each of these windows, or this one, for those that are published."""
    rows = connection.execute(statement(__file__, "select_network_contexts"), {"as_of": as_of, "version": version})
    return {row[0]: _context(*row) for row in rows}


def _context(*row: Any) -> NetworkContext:
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
    return NetworkContext(*values)


def _still_holds(before: dict[str, Any], row: dict[str, object], rewritten: dict[datetime, int]) -> bool:
    """Whether a published row says what is known now, of the network and of the addresses in its trailing day."""
    if any(before[column] != value for column, value in row.items()):
        return False
    as_of, known = before["window_start"], before["publication"]
    return not any(as_of - _DAY < window <= as_of and latest > known for window, latest in rewritten.items())


def _rewritten_activity(connection: Connection, start: datetime, end: datetime) -> dict[datetime, int]:
    """The last publication that touched the address buckets of each window in the trailing day of [start, end)."""
    rows = connection.execute(
        "SELECT window_start, publication FROM address_windows WHERE window_start > %s AND window_start < %s",
        [start - _DAY, end],
    )
    return dict(rows.fetchall())


def _read_published(connection: Connection, start: datetime, end: datetime) -> dict[datetime, dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT DISTINCT ON (window_start) * FROM network_baseline"
            " WHERE window_start >= %s AND window_start < %s ORDER BY window_start, context_version DESC",
            [start, end],
        )
        return {row["window_start"]: row for row in rows}


def _count_windows(connection: Connection, windows: list[datetime]) -> list[NetworkBucket]:
    rows = connection.execute(
        "SELECT extract(epoch FROM seen_at)::float8, value_sat, fee_sat::float8 / vsize, input_count, output_count"
        " FROM transactions WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at",
        [windows[0], windows[-1] + WINDOW],
        binary=True,
    ).fetchall()
    seen, values, fee_rates, inputs, outputs = zip(*rows, strict=True) if rows else [()] * 5
    return network_buckets(
        NetworkColumns(
            np.array(seen, np.float64),
            np.array(values, np.int64),
            np.array(fee_rates, np.float64),
            np.array(inputs, np.int64),
            np.array(outputs, np.int64),
        ),
        windows,
    )


def _read_buckets(connection: Connection, start: datetime, end: datetime) -> list[NetworkBucket]:
    rows = connection.execute(
        "SELECT DISTINCT ON (window_start) window_start, tx_count, value_sat, kind_counts,"
        " value_histogram, fee_rate_histogram"
        " FROM network_baseline WHERE window_start >= %s AND window_start < %s"
        " ORDER BY window_start, context_version DESC",
        [start, end],
    )
    return [
        NetworkBucket(row[0], row[1], int(row[2]), *(np.array(counts, np.int64) for counts in row[3:])) for row in rows
    ]


def _row(bucket: NetworkBucket, context: NetworkContext) -> dict[str, object]:
    columns = {name: getattr(context, name) for name in _CONTEXT_COLUMNS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in columns.items()} | {
        "tx_count": bucket.tx_count,
        "value_sat": bucket.value_sat,
        "kind_counts": bucket.kind_counts.tolist(),
        "value_histogram": bucket.value_histogram.tolist(),
        "fee_rate_histogram": bucket.fee_rate_histogram.tolist(),
    }
