"""Windows of days that are over as columns, with the features that the window lane had stored of them.

Rows come from the archive's files where these have them (`txwatch.archive.history`), so that a month is read again
without a query on the tables that the live lane writes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from txwatch.archive.datasets import FEATURES, TRANSACTIONS, Dataset
from txwatch.archive.days import day_span
from txwatch.archive.history import day_rows
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import Span
from txwatch.clock import EPOCH, MICROSECOND, WINDOW, window_range
from txwatch.features.batch import NO_ADDRESS, Coins, Floats, Ints, TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.store.database import Connection
from txwatch.wire.transaction import SCRIPT_TYPES

READ_AT_ONCE = timedelta(hours=6)
"""About what the archive sorts by amount at once, at 5.5 transactions a second: less would read row groups again."""
_FIGURES = ("value_sat", "fee_sat", "vsize", "weight", "size", "rbf", "version", "lock_time", "tip_height")
_OF_BATCH = ("txid", "seen_at", *_FIGURES, "inputs", "outputs")
_OF_FEATURES = ("txid", "seen_at", *FEATURE_NAMES)
_TYPES = pa.array(SCRIPT_TYPES)


@dataclass(frozen=True)
class StoredWindow:
    """Transactions of a window, by time and txid, and their stored features of shape (n, len(FEATURE_NAMES))."""

    start: datetime
    batch: TransactionBatch
    features: Floats


def stored_windows(
    connection: Connection, archive: Archive | None, start: datetime, end: datetime
) -> Iterator[StoredWindow]:
    """The windows in [start, end) that have transactions, in order. Those without features are left out.

    Holds READ_AT_ONCE of traffic in memory. Raises ArchiveError if a file cannot be read, or is of an older contract.
    """
    for span in spans(start, end):
        transactions = read_sorted(connection, archive, TRANSACTIONS, span, _OF_BATCH)
        features = read_sorted(connection, archive, FEATURES, span, _OF_FEATURES)
        if any(features[name].null_count for name in FEATURE_NAMES):
            raise ArchiveError(f"features of {span[0].date()} are of an older contract")
        rows = pc.index_in(transactions["txid"], features["txid"])
        transactions, rows = transactions.filter(rows.is_valid()), rows.drop_null().to_numpy()
        values = np.column_stack([features[name].to_numpy()[rows] for name in FEATURE_NAMES]).astype(np.float64)
        for window, begin, stop in _edges(transactions, span):
            yield StoredWindow(window, batch_of(transactions.slice(begin, stop - begin)), values[begin:stop])


def transactions_by_window(
    connection: Connection, archive: Archive | None, start: datetime, end: datetime
) -> Iterator[tuple[datetime, pa.Table]]:
    """What `batch_of` takes of each window in [start, end) that has transactions. Raises ArchiveError."""
    for span in spans(start, end):
        transactions = read_sorted(connection, archive, TRANSACTIONS, span, _OF_BATCH)
        for window, begin, stop in _edges(transactions, span):
            yield window, transactions.slice(begin, stop - begin)


def count_windows(
    connection: Connection, archive: Archive | None, start: datetime, end: datetime
) -> dict[datetime, int]:
    """How many transactions were seen in each window in [start, end) that has some. Raises ArchiveError."""
    counts: dict[datetime, int] = {}
    while start < end:
        stop = min(end, day_span(start.date())[1])
        for table in day_rows(connection, archive, TRANSACTIONS, start.date(), ("txid", "seen_at"), (start, stop)):
            windows, of_each = np.unique(microseconds(table) // (WINDOW // MICROSECOND), return_counts=True)
            for window, count in zip(windows.tolist(), of_each.tolist(), strict=True):
                at = EPOCH + window * WINDOW
                counts[at] = counts.get(at, 0) + count
        start = stop
    return counts


def spans(start: datetime, end: datetime) -> Iterator[Span]:
    """[start, end) in pieces of a day that are read at once."""
    while start < end:
        stop = min(end, start + READ_AT_ONCE, day_span(start.date())[1])
        yield start, stop
        start = stop


def read_sorted(
    connection: Connection, archive: Archive | None, dataset: Dataset, span: Span, columns: Sequence[str]
) -> pa.Table:
    """The rows of a span within a day, by time and txid. Raises ArchiveError."""
    tables = list(day_rows(connection, archive, dataset, span[0].date(), columns, span))
    together = pa.concat_tables([dataset.columns(columns).empty_table(), *tables])
    return together.sort_by([("seen_at", "ascending"), ("txid", "ascending")]).combine_chunks()


def microseconds(table: pa.Table) -> Ints:
    """When each row was seen, since 1970 UTC."""
    since_epoch: Ints = table["seen_at"].cast(pa.int64()).to_numpy()
    return since_epoch


def _edges(transactions: pa.Table, span: Span) -> Iterator[tuple[datetime, int, int]]:
    """Each window of a span that has rows, with the first of them and the one after the last."""
    windows = window_range(*span)
    edges = np.searchsorted(
        microseconds(transactions), [(w - EPOCH) // MICROSECOND for w in [*windows, span[1]]]
    ).tolist()
    for window, begin, stop in zip(windows, edges, edges[1:], strict=False):
        if stop > begin:
            yield window, begin, stop


def batch_of(table: pa.Table) -> TransactionBatch:
    """The columns of these transactions, the same as `TransactionBatch.of` makes of them one by one."""
    figures = {name: table[name] for name in _FIGURES}
    inputs, outputs = (table[name].combine_chunks() for name in ("inputs", "outputs"))
    spent, created = inputs.flatten(), outputs.flatten()
    # Numbered as they occur, as there: sums of floating point numbers are taken in this order.
    addresses = pa.concat_arrays([spent.field("addr"), created.field("addr")]).dictionary_encode()
    numbers = addresses.indices.fill_null(NO_ADDRESS).to_numpy().astype(np.int64)
    return TransactionBatch(
        txids=table["txid"].to_pylist(),
        seen_us=microseconds(table),
        value_sat=_ints(figures["value_sat"]),
        fee_sat=_floats(figures["fee_sat"]),
        vsize=_ints(figures["vsize"]),
        weight=_ints(figures["weight"]),
        size=_ints(figures["size"]),
        rbf=figures["rbf"].to_numpy(),
        version=_ints(figures["version"]),
        lock_time=_ints(figures["lock_time"]),
        tip_height=_floats(figures["tip_height"]),
        inputs=_coins(inputs, spent, numbers[: len(spent)]),
        outputs=_coins(outputs, created, numbers[len(spent) :]),
        input_height=_floats(spent.field("height")),
        input_coinbase=spent.field("coinbase").fill_null(False).to_numpy(zero_copy_only=False),
        addresses=addresses.dictionary.to_pylist(),
        spent_txids=spent.field("txid").to_pylist(),
    )


def _coins(groups: pa.ListArray, coins: pa.StructArray, numbers: Ints) -> Coins:
    of_each = pc.list_value_length(groups).to_numpy()
    return Coins(
        tx=np.repeat(np.arange(len(groups), dtype=np.int64), of_each),
        value=_floats(coins.field("value")),
        type=_ints(pc.index_in(coins.field("type"), _TYPES)),
        address=numbers,
    )


def _ints(column: Any) -> Ints:
    return np.asarray(column.to_numpy(), np.int64)


def _floats(column: Any) -> Floats:
    """Null is NaN."""
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(), np.float64)
