"""The state of the network: a bucket of counts for each window, summed into trailing hours and days, and its table.

Amounts and fee rates are counted in bins of an eighth of an octave: windows add exactly, and a quantile of any trailing
span is known to within 4.5 % without reading a transaction again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import dict_row

from txwatch.clock import WINDOW, window_range
from txwatch.features.context import QUANTILES, SHAPES, SPANS, NetworkContext, transaction_shapes
from txwatch.features.publications import next_publication
from txwatch.store.database import Connection

BINS_PER_OCTAVE = 8
VALUE_OCTAVES = (0, 51)  # 1 sat to 21 million BTC
FEE_RATE_OCTAVES = (-4, 21)  # 1/16 sat/vB to 2 million sat/vB

Histogram = NDArray[np.int64]


@dataclass(frozen=True)
class NetworkBucket:
    """One window's traffic: transactions, their total output in satoshi, counts by shape, and both histograms."""

    window_start: datetime
    tx_count: int
    value_sat: int
    kind_counts: Histogram
    value_histogram: Histogram
    fee_rate_histogram: Histogram


@dataclass(frozen=True)
class NetworkColumns:
    """What the baseline needs of each transaction, in arrays of shape (n,). Amounts in satoshi, fee rates in sat/vB.

    `seen` is in seconds UTC and increases; `fee_rate` is NaN where the fee is unknown.
    """

    seen: NDArray[np.float64]
    value_sat: NDArray[np.int64]
    fee_rate: NDArray[np.float64]
    input_count: NDArray[np.int64]
    output_count: NDArray[np.int64]


def network_buckets(columns: NetworkColumns, windows: Sequence[datetime]) -> list[NetworkBucket]:
    """Count each of these contiguous windows; what was seen outside of them is left out."""
    edges = np.searchsorted(columns.seen, [w.timestamp() for w in [*windows, windows[-1] + WINDOW]]).tolist()
    shapes = transaction_shapes(columns.input_count, columns.output_count)
    value_bins = _bins(columns.value_sat.astype(np.float64), VALUE_OCTAVES)
    fee_rate_bins = _bins(columns.fee_rate, FEE_RATE_OCTAVES)
    known = ~np.isnan(columns.fee_rate)
    return [
        NetworkBucket(
            window,
            tx_count=end - start,
            value_sat=sum(columns.value_sat[start:end].tolist()),  # of hostile amounts, more than an int64 holds
            kind_counts=np.bincount(shapes[start:end], minlength=len(SHAPES)),
            value_histogram=np.bincount(value_bins[start:end], minlength=_size(VALUE_OCTAVES)),
            fee_rate_histogram=np.bincount(
                fee_rate_bins[start:end][known[start:end]], minlength=_size(FEE_RATE_OCTAVES)
            ),
        )
        for window, start, end in zip(windows, edges, edges[1:], strict=False)
    ]


def network_contexts(buckets: Sequence[NetworkBucket], windows: Sequence[datetime]) -> list[NetworkContext]:
    """The context as of each window, from buckets in order of time that reach back a day before the first one."""
    starts = np.array([b.window_start.timestamp() for b in buckets])
    counts = _running_sum([np.array([b.tx_count]) for b in buckets])
    kinds = _running_sum([b.kind_counts for b in buckets])
    histograms = (
        ("value_sat", _running_sum([b.value_histogram for b in buckets]), VALUE_OCTAVES),
        ("fee_rate", _running_sum([b.fee_rate_histogram for b in buckets]), FEE_RATE_OCTAVES),
    )
    contexts = []
    for window in windows:
        end = int(np.searchsorted(starts, window.timestamp(), side="right"))
        of: dict[str, Any] = {}
        for span, length in SPANS.items():
            begin = int(np.searchsorted(starts, (window + WINDOW - length).timestamp()))
            of[f"tx_count_{span}"] = int(counts[end, 0] - counts[begin, 0])
            of[f"kind_counts_{span}"] = tuple((kinds[end] - kinds[begin]).tolist())
            for what, sums, octaves in histograms:
                quantiles = _quantiles(sums[end] - sums[begin], octaves)
                of |= {f"{name}_{what}_{span}": value for name, value in quantiles.items()}
        contexts.append(NetworkContext(as_of=window, version=0, windows_24h=end - begin, **of))
    return contexts


def _size(octaves: tuple[int, int]) -> int:
    return (octaves[1] - octaves[0]) * BINS_PER_OCTAVE


def _bins(values: NDArray[np.float64], octaves: tuple[int, int]) -> NDArray[np.int64]:
    """The bin of each value; what is unknown, or lies outside, goes to the nearest end."""
    low = octaves[0]
    octave = np.log2(np.maximum(np.nan_to_num(values), 2.0**low)) - low
    bins: NDArray[np.int64] = np.minimum(np.floor(octave * BINS_PER_OCTAVE).astype(np.int64), _size(octaves) - 1)
    return bins


def value_bin(satoshi: int) -> int:
    """The bin of an amount in `value_histogram`, from 0 on."""
    return int(_bins(np.array([float(satoshi)]), VALUE_OCTAVES)[0])


def fee_rate_bin(rate: float) -> int:
    """The bin of a fee rate in sat/vB in `fee_rate_histogram`, from 0 on."""
    return int(_bins(np.array([rate]), FEE_RATE_OCTAVES)[0])


def _running_sum(rows: Sequence[Histogram]) -> Histogram:
    """Row i is the sum of the first i rows, so that any span is one subtraction."""
    if not rows:
        return np.zeros((1, 1), np.int64)
    return np.concatenate([np.zeros((1, len(rows[0])), np.int64), np.cumsum(np.stack(rows), axis=0)])


def _quantiles(histogram: Histogram, octaves: tuple[int, int]) -> dict[str, float | None]:
    """The QUANTILES, interpolated on the log scale within their bins. None of an empty histogram."""
    running = np.cumsum(histogram)
    if not running[-1]:
        return dict.fromkeys(QUANTILES)
    ranks = np.array(list(QUANTILES.values())) * running[-1]
    i = np.searchsorted(running, ranks)
    within = (ranks - running[i] + histogram[i]) / histogram[i]
    values = 2.0 ** (octaves[0] + (i + within) / BINS_PER_OCTAVE)
    return dict(zip(QUANTILES, values.tolist(), strict=True))


_DAY = timedelta(hours=24)
_FIGURES = [field.name for field in fields(NetworkContext) if field.name not in {"as_of", "version", "publication"}]
_CONTEXT = sql.SQL(", ").join(map(sql.Identifier, ["window_start", "context_version", "publication", *_FIGURES]))


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
            before = published.get(context.as_of, {"context_version": 0, "publication": publication})
            version, known = before["context_version"], before["publication"]
            if not version or not _still_holds(before, row, rewritten):
                version, known = version + 1, publication
                changed.append({"window_start": context.as_of, "context_version": version, "publication": known} | row)
            contexts[i] = replace(context, version=version, publication=known)
        if changed:
            columns, values = (sql.SQL(", ").join(map(of, changed[0])) for of in (sql.Identifier, sql.Placeholder))
            insert = sql.SQL("INSERT INTO network_baseline ({}) VALUES ({})").format(columns, values)
            connection.cursor().executemany(insert, changed)
    return contexts


def read_network_context(connection: Connection, as_of: datetime, version: int | None = None) -> NetworkContext:
    """The newest version of the context as of a window, or this version; one without figures if it is not published."""
    return read_network_contexts(connection, [as_of], version)[as_of]


def read_network_contexts(
    connection: Connection, as_of: Sequence[datetime], version: int | None = None
) -> dict[datetime, NetworkContext]:
    """The same as of each of these windows. Without a given version, one that is not published has version 0."""
    rows = connection.execute(
        sql.SQL(
            "SELECT DISTINCT ON (window_start) {} FROM network_baseline WHERE window_start = ANY(%s)"
            " AND (%s::bigint IS NULL OR context_version = %s) ORDER BY window_start, context_version DESC"
        ).format(_CONTEXT),
        [list(as_of), version, version],
    )
    published: dict[datetime, list[Any]] = {
        row[0]: [tuple(value) if isinstance(value, list) else value for value in row] for row in rows
    }
    return {window: NetworkContext(*published.get(window, [window, version or 0])) for window in as_of}


def _still_holds(before: dict[str, Any], row: dict[str, object], rewritten: dict[datetime, int]) -> bool:
    """Whether a published row says what is known now, of the network and of the addresses in its trailing day."""
    as_of, known = before["window_start"], before["publication"]
    outdated = any(as_of - _DAY < window <= as_of and latest > known for window, latest in rewritten.items())
    return not outdated and all(before[column] == value for column, value in row.items())


def _rewritten_activity(connection: Connection, start: datetime, end: datetime) -> dict[datetime, int]:
    """The last publication of the address buckets of each window in the trailing day of [start, end)."""
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
    types = (np.float64, np.int64, np.float64, np.int64, np.int64)
    columns: list[Any] = list(map(np.array, zip(*rows, strict=True) if rows else [()] * len(types), types))
    return network_buckets(NetworkColumns(*columns), windows)


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
    columns = {name: getattr(context, name) for name in _FIGURES}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in columns.items()} | {
        "tx_count": bucket.tx_count,
        "value_sat": bucket.value_sat,
        "kind_counts": bucket.kind_counts.tolist(),
        "value_histogram": bucket.value_histogram.tolist(),
        "fee_rate_histogram": bucket.fee_rate_histogram.tolist(),
    }
