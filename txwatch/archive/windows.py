"""Windows of days that are over as columns, with the features that are stored of them, or computed again.

Rows come from the archive's files where these have them (`txwatch.archive.reading`), so that a month is read again
without a query on the tables that the live lane writes.

Computed again are those of another contract, for a new feature or one that has changed. The context of a window is made
of the transactions of its trailing day: the network's by counts (`txwatch.features.network`), that of an address by
what it did in each window, of which all are known beforehand and lie sorted by address, so that a trailing day is a
stretch of rows. Addresses are told apart by a hash of 64 bits: that two of the millions of two days are taken for
one has a chance of one in a million.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from txwatch.archive.checksum import Hashes, text_hashes
from txwatch.archive.datasets import FEATURES, TRANSACTIONS, Dataset
from txwatch.archive.days import day_span, read_days
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import Span, day_rows
from txwatch.clock import CONTEXT_LAG, EPOCH, MICROSECOND, WINDOW, context_window, window_range
from txwatch.features.batch import NO_ADDRESS, Coins, Flags, Floats, Ints, TransactionBatch
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import NetworkBucket, NetworkColumns, network_buckets, network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection
from txwatch.wire.transaction import SCRIPT_TYPES

READ_AT_ONCE = timedelta(hours=6)
"""About what the archive sorts by amount at once, at 5.5 transactions a second: less would read row groups again."""
_FIGURES = ("value_sat", "fee_sat", "vsize", "weight", "size", "rbf", "version", "lock_time", "tip_height")
_OF_BATCH = ("txid", "seen_at", *_FIGURES, "inputs", "outputs")
_OF_FEATURES = ("txid", "seen_at", *FEATURE_NAMES)
_TYPES = pa.array(SCRIPT_TYPES)
_TRAILING = timedelta(hours=24) + (CONTEXT_LAG - 1) * WINDOW
_DAY_WINDOWS = timedelta(hours=24) // WINDOW
_COUNTED = ("txid", "seen_at", "value_sat", "fee_sat", "vsize", "input_count", "output_count", "inputs", "outputs")
_MOST = np.iinfo(np.int64).max


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


@dataclass(frozen=True)
class RecomputedWindow(StoredWindow):
    """The same with the context that the features were computed in."""

    context: Context


def recomputed_windows(
    connection: Connection, archive: Archive | None, start: datetime, end: datetime
) -> Iterator[RecomputedWindow]:
    """The windows in [start, end) that have transactions, in order. Raises ArchiveError.

    Transactions of the day before are read too, as far as there are some: before the first one there is no context.
    Holds about 60 bytes for each coin of all of them, and a piece of the traffic.
    """
    buckets, activity = _counted(connection, archive, start - _TRAILING, end)
    first = buckets[0].window_start if buckets else end
    known = [as_of for as_of in map(context_window, window_range(start, end)) if as_of >= first]
    networks = {context.as_of: replace(context, version=1) for context in network_contexts(buckets, known)}
    for window, table in transactions_by_window(connection, archive, start, end):
        batch, as_of = batch_of(table), context_window(window)
        context = Context(NetworkContext(as_of, version=0))
        if as_of in networks:
            context = Context(networks[as_of], activity.trailing_day(as_of, batch.input_addresses()))
        yield RecomputedWindow(window, batch, transaction_features(batch, context), context)


@dataclass(frozen=True)
class _Activity:
    """What each address did in each window in which it took part, sorted by address and window. All of one length.

    `window` counts from 1970, `first` and `last` are microseconds since then, amounts satoshi.
    """

    address: Hashes
    window: Ints
    tx_count: Ints
    received: Ints
    spent: Ints
    first: Ints
    last: Ints

    def trailing_day(self, as_of: datetime, addresses: Sequence[str]) -> dict[str, AddressActivity]:
        """The day that ends with a window of those of these addresses that took part in it."""
        wanted = text_hashes(pa.array(addresses, pa.string()))
        left, right = (np.searchsorted(self.address, wanted, side) for side in ("left", "right"))
        lengths = right - left
        owner = np.repeat(np.arange(len(wanted)), lengths)
        rows = np.arange(len(owner)) + np.repeat(left - np.cumsum(lengths) + lengths, lengths)
        last = (as_of - EPOCH) // WINDOW
        within = (self.window[rows] > last - _DAY_WINDOWS) & (self.window[rows] <= last)
        rows, owner = rows[within], owner[within]
        starts = np.flatnonzero(np.r_[True, np.diff(owner) != 0]) if len(owner) else owner
        if not len(starts):
            return {}
        columns = (
            np.add.reduceat(self.tx_count[rows], starts),
            _sums(self.received[rows], starts),
            _sums(self.spent[rows], starts),
            np.minimum.reduceat(self.first[rows], starts),
            np.maximum.reduceat(self.last[rows], starts),
        )
        return {
            addresses[place]: AddressActivity(
                count, received, spent, EPOCH + seen * MICROSECOND, EPOCH + until * MICROSECOND
            )
            for place, count, received, spent, seen, until in zip(
                owner[starts].tolist(), *(column.tolist() for column in columns), strict=True
            )
        }


def _counted(
    connection: Connection, archive: Archive | None, start: datetime, end: datetime
) -> tuple[list[NetworkBucket], _Activity]:
    """The traffic of each window from the first one that holds some, and what each address did in it."""
    buckets: list[NetworkBucket] = []
    parts: list[tuple[Hashes, Ints, Ints, Flags]] = []
    moments: list[Ints] = []
    for span in spans(start, end):
        table = read_sorted(connection, archive, TRANSACTIONS, span, _COUNTED)
        buckets += network_buckets(_network_columns(table), window_range(*span))
        parts += [_coins_of_addresses(table, side, sum(map(len, moments))) for side in ("inputs", "outputs")]
        moments.append(microseconds(table))
    # Silence counts, but not before there was anybody to listen.
    if not any(one.day < start.date() for one in read_days(connection, TRANSACTIONS)):
        buckets = buckets[next((n for n, bucket in enumerate(buckets) if bucket.tx_count), len(buckets)) :]
    address, tx, value, is_spent = (np.concatenate(column) for column in zip(*parts, strict=True))
    return buckets, _activity(address, tx, value, is_spent, np.concatenate(moments))


def _network_columns(table: pa.Table) -> NetworkColumns:
    vsize = table["vsize"].cast(pa.float64()).to_numpy()
    return NetworkColumns(
        seen=microseconds(table) / 1e6,
        value_sat=table["value_sat"].to_numpy(),
        fee_rate=table["fee_sat"].cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy() / vsize,
        input_count=table["input_count"].to_numpy().astype(np.int64),
        output_count=table["output_count"].to_numpy().astype(np.int64),
    )


def _coins_of_addresses(table: pa.Table, side: str, before: int) -> tuple[Hashes, Ints, Ints, Flags]:
    """Of each coin with an address its hash, its transaction's number, its satoshi, and whether it is spent."""
    groups = table[side].combine_chunks()
    coins = groups.flatten()
    addressed = coins.field("addr").is_valid()
    of_each = pc.list_value_length(groups).to_numpy().astype(np.int64)
    number = np.repeat(np.arange(len(groups), dtype=np.int64) + before, of_each)
    known = addressed.to_numpy(zero_copy_only=False)
    values = coins.field("value").fill_null(0).to_numpy()[known]
    hashes = text_hashes(coins.field("addr").filter(addressed))
    return hashes, number[known], values, np.full(len(values), side == "inputs")


def _activity(address: Hashes, tx: Ints, value: Ints, is_spent: Flags, seen: Ints) -> _Activity:
    order = np.lexsort((tx, address))
    address, tx, value, is_spent = address[order], tx[order], value[order], is_spent[order]
    window = seen[tx] // (WINDOW // MICROSECOND)
    begins = np.r_[True, (np.diff(address) != 0) | (np.diff(window) != 0)] if len(tx) else np.zeros(0, np.bool_)
    starts = np.flatnonzero(begins)
    if not len(starts):
        return _Activity(address, *[np.zeros(0, np.int64)] * 6)
    of_another = begins | np.r_[True, np.diff(tx) != 0]
    return _Activity(
        address[starts],
        window[starts],
        np.add.reduceat(of_another.astype(np.int64), starts),
        _sums(np.where(is_spent, 0, value), starts),
        _sums(np.where(is_spent, value, 0), starts),
        seen[tx[starts]],
        seen[tx[np.r_[starts[1:], len(tx)] - 1]],
    )


def _sums(values: Ints, starts: Ints) -> Ints:
    """The sum from each start to the next one; of hostile amounts, no more than a BIGINT holds."""
    sums: Ints = np.add.reduceat(values, starts)
    sums[np.add.reduceat(values.astype(np.float64), starts) >= float(_MOST)] = _MOST
    return sums
