"""Replay traffic without a database: labelled transactions, windows, contexts and features as stored.

The contexts are the same as in production: those as of two windows before, of the trailing hour and day.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from txwatch.captures import read_capture
from txwatch.clock import EPOCH, WINDOW, context_window, window_range, window_start
from txwatch.features.batch import TransactionBatch, WindowFeatures, input_addresses
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import NetworkBucket, NetworkColumns, network_buckets, network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.lab.simulator.plants import PLANTS_PER_HOUR
from txwatch.lab.simulator.traffic import Simulator
from txwatch.places import Place
from txwatch.wire.messages import MalformedMessageError, UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

_DAY = timedelta(hours=24)
_CLEAR_EVERY = timedelta(hours=2)


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

    def at(self, rows: Sequence[int]) -> "Labelled":
        """Those in these places."""
        return Labelled([self.transactions[row] for row in rows], [self.labels[row] for row in rows])


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
                tx = from_wire(message.x, captured.received_at or EPOCH, "bulk")
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
    """Simulated traffic in order of arrival. A plant's label is `plant:` and its kind."""
    simulator = Simulator(regime, seed=seed, start=start, rate=rate, plants_per_hour=plants_per_hour)
    traffic = list(simulator.until(start + duration))
    return Labelled([one.transaction("bulk") for one in traffic], [next(iter(one.labels), None) for one in traffic])


def replay(transactions: Iterable[Transaction]) -> Iterator[WindowFeatures]:
    """Each window that holds transactions, in order. `transactions` come in order of `seen_at`.

    As in production after a cold start, the first two windows have no context.
    """
    history = _History()
    for start, group in groupby(transactions, lambda tx: window_start(tx.seen_at)):
        window = list(group)
        batch = TransactionBatch.of(window)
        context = history.context(context_window(start), window)
        yield WindowFeatures(start, window, batch, transaction_features(batch, context), context)
        history.add(start, window)


def replayed_features(windows: Iterable[WindowFeatures]) -> NDArray[np.float64]:
    """The features of all windows, of shape (n, len(FEATURE_NAMES)), in their order."""
    return np.concatenate([np.empty((0, len(FEATURE_NAMES))), *(window.features for window in windows)])


class _History:
    """The trailing day of windows: network buckets, and what each address did."""

    def __init__(self) -> None:
        self._buckets: deque[NetworkBucket] = deque()
        self._activity: dict[str, list[tuple[datetime, AddressActivity]]] = {}
        """Of each address, the windows in which it took part and what it did in each."""
        self._cleared_at = datetime.min.replace(tzinfo=UTC)

    def context(self, as_of: datetime, transactions: Sequence[Transaction]) -> Context:
        if not self._buckets or as_of < self._buckets[0].window_start:
            return Context(NetworkContext(as_of, version=0))
        since = as_of + WINDOW - _DAY
        buckets = [bucket for bucket in self._buckets if bucket.window_start >= since]
        network = replace(network_contexts(buckets, [as_of])[0], version=1)
        known = input_addresses(transactions) & self._activity.keys()
        activity = {address: self._sum(address, since, as_of) for address in known}
        return Context(network, {address: day for address, day in activity.items() if day is not None})

    def add(self, start: datetime, transactions: Sequence[Transaction]) -> None:
        # Silent windows between count as windows of the day: there was traffic to hear, and none came.
        first = self._buckets[-1].window_start + WINDOW if self._buckets else start
        self._buckets.extend(network_buckets(network_columns(transactions), window_range(first, start + WINDOW)))
        while self._buckets[0].window_start < context_window(start) - _DAY:
            self._buckets.popleft()
        for address, activity in _participations(transactions).items():
            self._activity.setdefault(address, []).append((start, activity))
        if start - self._cleared_at >= _CLEAR_EVERY:
            self._forget(start)

    def _forget(self, start: datetime) -> None:
        """Drop what has left the trailing day, so that long traffic needs no more memory than a day of it."""
        oldest = context_window(start) - _DAY
        self._activity = {
            address: buckets if buckets[0][0] >= oldest else [bucket for bucket in buckets if bucket[0] >= oldest]
            for address, buckets in self._activity.items()
            if buckets[-1][0] >= oldest
        }
        self._cleared_at = start

    def _sum(self, address: str, since: datetime, as_of: datetime) -> AddressActivity | None:
        parts = [activity for start, activity in self._activity[address] if since <= start <= as_of]
        return reduce(_together, parts) if parts else None


def _together(a: AddressActivity, b: AddressActivity) -> AddressActivity:
    return AddressActivity(
        a.tx_count + b.tx_count,
        a.received_sat + b.received_sat,
        a.spent_sat + b.spent_sat,
        min(a.first_seen_at, b.first_seen_at),
        max(a.last_seen_at, b.last_seen_at),
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


def _participations(transactions: Sequence[Transaction]) -> dict[str, AddressActivity]:
    """What each address did in these transactions; one that is on both sides of a transaction took part once."""
    activity: dict[str, AddressActivity] = {}
    for tx in transactions:
        sides: dict[str, list[int]] = {}
        for side, coins in ((0, tx.outputs), (1, tx.inputs)):
            for coin in coins:
                if coin.addr is not None:
                    sides.setdefault(coin.addr, [0, 0])[side] += coin.value or 0
        for address, (received, spent) in sides.items():
            own = AddressActivity(1, received, spent, tx.seen_at, tx.seen_at)
            activity[address] = _together(activity[address], own) if address in activity else own
    return activity
