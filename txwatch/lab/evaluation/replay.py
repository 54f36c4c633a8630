"""Replay traffic without a database: labelled transactions, windows, contexts and features as stored.

The contexts are the same as in production: those as of two windows before, of the trailing hour and day.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txwatch.captures import read_capture
from txwatch.clock import WINDOW, context_window, window_range, window_start
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import NetworkBucket, NetworkColumns, network_buckets, network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.lab.simulator.plants import PLANTS_PER_HOUR
from txwatch.lab.simulator.traffic import Simulator
from txwatch.places import Place
from txwatch.wire.messages import MalformedMessageError, UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Labelled:
    """Transactions, and the first label of each, None for most. `malformed` messages were left out."""

    transactions: list[Transaction]
    labels: list[str | None]
    malformed: int = 0

    def __len__(self) -> int:
        return len(self.transactions)

    def rows(self, label: str | None) -> list[int]:
        """The places of the transactions with this label."""
        return [row for row, known in enumerate(self.labels) if known == label]

    def only(self, label: str | None) -> "Labelled":
        """Those with this label."""
        rows = self.rows(label)
        return Labelled([self.transactions[row] for row in rows], [label] * len(rows))


def read_labelled(paths: Iterable[Place]) -> Labelled:
    """The transactions of these captures; one that occurs twice is taken once.

    Raises txwatch.captures.CaptureError and OSError.
    """
    transactions: dict[str, Transaction] = {}
    labels: dict[str, str | None] = {}
    malformed = 0
    for path in paths:
        for captured in read_capture(path):
            try:
                message = decode(captured.message)
                if not isinstance(message, UnconfirmedTransaction):
                    continue
                tx = from_wire(message.x, captured.received_at or _NO_TIME, "bulk")
            except MalformedMessageError:
                malformed += 1
                continue
            if tx.txid not in transactions:
                transactions[tx.txid] = tx
                labels[tx.txid] = captured.labels[0] if captured.labels else None
    return Labelled(list(transactions.values()), list(labels.values()), malformed)


def simulate(
    regime: str,
    *,
    seed: int,
    start: datetime,
    duration: timedelta,
    rate: float | None = None,
    plants_per_hour: Mapping[str, float] = PLANTS_PER_HOUR,
) -> Labelled:
    """Simulated traffic in order of arrival. A plant's label is `plant:` and its kind. See `Simulator`."""
    simulator = Simulator(regime, seed=seed, start=start, rate=rate, plants_per_hour=plants_per_hour)
    transactions, labels = [], []
    for simulated in simulator.until(start + duration):
        transactions.append(simulated.transaction("bulk"))
        labels.append(simulated.labels[0] if simulated.labels else None)
    return Labelled(transactions, labels)


_DAY = timedelta(hours=24)
_CLEAR_EVERY = timedelta(hours=2)


@dataclass(frozen=True)
class ReplayedWindow:
    """One window's transactions with their columns and features, of shape (n, len(FEATURE_NAMES)), and context."""

    start: datetime
    transactions: Sequence[Transaction]
    batch: TransactionBatch
    features: NDArray[np.float64]
    context: Context


def replay(transactions: Iterable[Transaction]) -> Iterator[ReplayedWindow]:
    """Each window that holds transactions, in order. `transactions` come in order of `seen_at`.

    As in production after a cold start, the first two windows have no context.
    """
    history = _History()
    for start, group in groupby(transactions, lambda tx: window_start(tx.seen_at)):
        window = list(group)
        batch = TransactionBatch.of(window)
        context = history.context(context_window(start), window)
        yield ReplayedWindow(start, window, batch, transaction_features(batch, context), context)
        history.add(start, window)


def replayed_features(windows: Iterable[ReplayedWindow]) -> NDArray[np.float64]:
    """The features of all windows, of shape (n, len(FEATURE_NAMES)), in their order."""
    return np.concatenate([np.empty((0, len(FEATURE_NAMES))), *(window.features for window in windows)])


class _Bucket(NamedTuple):
    """One address in one window."""

    start: datetime
    tx_count: int
    received_sat: int
    spent_sat: int
    first_seen_at: datetime
    last_seen_at: datetime


class _History:
    """The trailing day of windows: network buckets, and what each address did."""

    def __init__(self) -> None:
        self._buckets: deque[NetworkBucket] = deque()
        self._activity: dict[str, tuple[_Bucket, ...]] = {}
        self._cleared_at = datetime.min.replace(tzinfo=UTC)

    def context(self, as_of: datetime, transactions: Sequence[Transaction]) -> Context:
        if not self._buckets or as_of < self._buckets[0].window_start:
            return Context(NetworkContext(as_of, version=0))
        since = as_of + WINDOW - _DAY
        buckets = [bucket for bucket in self._buckets if bucket.window_start >= since]
        network = replace(network_contexts(buckets, [as_of])[0], version=1)
        wanted = {spent.addr for tx in transactions for spent in tx.inputs if spent.addr is not None}
        known = ((address, self._sum(address, since, as_of)) for address in wanted & self._activity.keys())
        return Context(network, {address: activity for address, activity in known if activity is not None})

    def add(self, start: datetime, transactions: Sequence[Transaction]) -> None:
        # Silent windows between count as windows of the day: there was traffic to hear, and none came.
        first = self._buckets[-1].window_start + WINDOW if self._buckets else start
        self._buckets.extend(network_buckets(network_columns(transactions), window_range(first, start + WINDOW)))
        while self._buckets[0].window_start < start - _DAY - 2 * WINDOW:
            self._buckets.popleft()
        for address, bucket in _participations(start, transactions).items():
            self._activity[address] = (*self._activity.get(address, ()), bucket)
        if start - self._cleared_at >= _CLEAR_EVERY:
            self._forget(start)

    def _forget(self, start: datetime) -> None:
        """Drop what has left the trailing day, so that long traffic needs no more memory than a day of it."""
        oldest = start - _DAY - 2 * WINDOW
        kept = (
            (address, buckets if buckets[0].start >= oldest else tuple(b for b in buckets if b.start >= oldest))
            for address, buckets in self._activity.items()
            if buckets[-1].start >= oldest
        )
        self._activity = dict(kept)
        self._cleared_at = start

    def _sum(self, address: str, since: datetime, as_of: datetime) -> AddressActivity | None:
        parts = [bucket for bucket in self._activity[address] if since <= bucket.start <= as_of]
        if not parts:
            return None
        return AddressActivity(
            sum(part.tx_count for part in parts),
            sum(part.received_sat for part in parts),
            sum(part.spent_sat for part in parts),
            min(part.first_seen_at for part in parts),
            max(part.last_seen_at for part in parts),
        )


def network_columns(transactions: Sequence[Transaction]) -> NetworkColumns:
    """What the network's baseline counts of these transactions."""
    return NetworkColumns(
        seen=np.array([tx.seen_at.timestamp() for tx in transactions], np.float64),
        value_sat=np.array([tx.value_sat for tx in transactions], np.int64),
        fee_rate=np.array([np.nan if tx.fee_rate is None else tx.fee_rate for tx in transactions], np.float64),
        input_count=np.array([tx.input_count for tx in transactions], np.int64),
        output_count=np.array([tx.output_count for tx in transactions], np.int64),
    )


def _participations(start: datetime, transactions: Sequence[Transaction]) -> dict[str, _Bucket]:
    """What each address did in these transactions; one that is on both sides of a transaction took part once."""
    buckets: dict[str, _Bucket] = {}
    for tx in transactions:
        sides: dict[str, list[int]] = {}
        for side, coins in ((0, tx.outputs), (1, tx.inputs)):
            for coin in coins:
                if coin.addr is not None:
                    sides.setdefault(coin.addr, [0, 0])[side] += coin.value or 0
        for address, (received, spent) in sides.items():
            before = buckets.get(address)
            if before is None:
                buckets[address] = _Bucket(start, 1, received, spent, tx.seen_at, tx.seen_at)
            else:
                _, tx_count, received_sat, spent_sat, first, _ = before
                counts = (tx_count + 1, received_sat + received, spent_sat + spent)
                buckets[address] = _Bucket(start, *counts, first, tx.seen_at)
    return buckets
