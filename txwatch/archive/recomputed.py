"""Features of archived days, computed again from their transactions alone, as the window lane would.

For a new feature, or one that has changed: then those that were archived are of an older contract. The context of a
window is made of the transactions of its trailing day: the network's by counts (`txwatch.features.network`), that of an
address by what it did in each window, of which all are known beforehand and lie sorted by address, so that a trailing
day is a stretch of rows.

Addresses are told apart by a hash of 64 bits: that two of the millions of two days are taken for one has a chance of
one in a million.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from txwatch.archive.batches import StoredWindow, batch_of, microseconds, read_sorted, spans, transactions_by_window
from txwatch.archive.checksum import Hashes, text_hashes
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.archive.days import read_days
from txwatch.archive.manifest import Archive
from txwatch.clock import CONTEXT_LAG, EPOCH, MICROSECOND, WINDOW, context_window, window_range
from txwatch.features.batch import Flags, Ints
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.network import NetworkBucket, NetworkColumns, network_buckets, network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection

_TRAILING = timedelta(hours=24) + (CONTEXT_LAG - 1) * WINDOW
_DAY_WINDOWS = timedelta(hours=24) // WINDOW
_COUNTED = ("txid", "seen_at", "value_sat", "fee_sat", "vsize", "input_count", "output_count", "inputs", "outputs")
_MOST = np.iinfo(np.int64).max


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
        parts += [_coins(table, side, sum(map(len, moments))) for side in ("inputs", "outputs")]
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


def _coins(table: pa.Table, side: str, before: int) -> tuple[Hashes, Ints, Ints, Flags]:
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
