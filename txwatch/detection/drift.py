"""Drift: whether recent traffic is still like that which the champion was trained on.

Distance: for each feature the largest difference between the two distribution functions (the Kolmogorov-Smirnov
statistic), 0 for equal and 1 for disjoint traffic. Unlike a p-value it does not grow with the number of rows.

Limits: how far an hour of the reference itself is from the rest, by block bootstrap. In each replicate as many rows as
there are now are drawn from one hour of the reference, and compared with a reference drawn anew by hours: a limit grows
where few rows make distances uncertain, and where one hour is ordinarily unlike another. The limits of all features
come from the distribution of the largest excess, so that a report on unchanged traffic raises a false alarm with
probability FALSE_ALARMS, not one for each feature. No change below MIN_DISTANCE counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from txwatch.features.batch import Floats, Ints
from txwatch.features.contract import FEATURES

FALSE_ALARMS = 0.01
MIN_DISTANCE = 0.05
REPLICATES = 400
BINS = 200
MIN_ROWS = 500
HOUR, FIVE_MINUTES = timedelta(hours=1), timedelta(minutes=5)
MIN_HOURS = 6
"""Hours. The blocks of a shorter reference are five minutes."""

_RELATIVE = {"Against the network", "What the input addresses did in the trailing day"}
WATCHED = tuple(
    i
    for i, feature in enumerate(FEATURES)
    if feature.group not in _RELATIVE and (feature.forest or feature.name in {"value_sat", "fee_rate", "vsize"})
)
"""What the forest sees of the transaction itself, with amount, fee rate and size. Features relative to the network
follow the traffic by design, and those of addresses fill up for a day after a start: neither shows a change."""


class TooFewRowsError(ValueError):
    """Too little traffic to compare."""


@dataclass(frozen=True)
class FeatureDrift:
    """One feature: how far it is from the reference, and how far it may be."""

    feature: str
    distance: float
    limit: float

    @property
    def drifted(self) -> bool:
        """Whether it is further than it may be."""
        return self.distance > self.limit


@dataclass(frozen=True)
class Drift:
    """Recent traffic against the reference; the feature furthest beyond its limit comes first."""

    rows: int
    reference_rows: int
    features: list[FeatureDrift]

    @property
    def drifted(self) -> bool:
        """Whether the traffic has changed. One feature is enough: the limits allow for how many there are."""
        return any(feature.drifted for feature in self.features)

    @property
    def share(self) -> float:
        """The share of the watched features that have drifted."""
        return sum(feature.drifted for feature in self.features) / len(self.features)


class Reference:
    """What the champion was trained on, counted in blocks of time, and the limits that follow.

    `features` has shape (n, len(FEATURES)), `seen` are seconds UTC of each row.
    """

    def __init__(self, features: Floats, seen: Floats, *, seed: int = 1) -> None:
        if len(features) < MIN_ROWS:
            raise TooFewRowsError(f"the reference has {len(features)} rows, a comparison wants {MIN_ROWS}")
        self.rows = len(features)
        span = timedelta(seconds=float(seen.max() - seen.min()))
        self._block = HOUR if span >= MIN_HOURS * HOUR else FIVE_MINUTES
        blocks = np.unique((seen // self._block.total_seconds()).astype(np.int64), return_inverse=True)[1]
        self._edges = [_edges(features[:, i]) for i in WATCHED]
        self._counts = [
            _count_by_block(_bins(features[:, i], edges), blocks, len(edges) + 2)
            for i, edges in zip(WATCHED, self._edges, strict=True)
        ]
        self._seed = seed
        self._known_limits: dict[tuple[int, int], list[float]] = {}

    def compare(self, features: Floats, *, span: timedelta = HOUR) -> Drift:
        """Recent features, of shape (n, len(FEATURES)), seen within `span`. Raises TooFewRowsError."""
        if len(features) < MIN_ROWS:
            raise TooFewRowsError(f"{len(features)} recent rows, a comparison wants {MIN_ROWS}")
        drawn = (len(features), max(1, round(span / self._block)))
        if drawn not in self._known_limits:
            self._known_limits[drawn] = self._limits(*drawn)
        limits = self._known_limits[drawn]
        found = []
        for i, edges, counts, limit in zip(WATCHED, self._edges, self._counts, limits, strict=True):
            recent = np.bincount(_bins(features[:, i], edges), minlength=counts.shape[1])
            [distance] = _distance(recent[None, :], counts.sum(axis=0)[None, :])
            found.append(FeatureDrift(FEATURES[i].name, float(distance), limit))
        return Drift(len(features), self.rows, sorted(found, key=lambda f: f.limit - f.distance))

    def _limits(self, rows: int, blocks_at_once: int) -> list[float]:
        """Of each feature the distance that unchanged traffic of so many rows stays within."""
        generator = np.random.default_rng(self._seed)
        n = len(self._counts[0])
        weights = self._counts[0].sum(axis=1)
        recent = np.zeros((REPLICATES, n))
        for replicate in range(REPLICATES):
            chosen = np.bincount(generator.integers(0, n, blocks_at_once), minlength=n) * weights
            recent[replicate] = generator.multinomial(rows, chosen / chosen.sum())
        again = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(REPLICATES)])
        distances = np.stack(
            [_distance(_draw(generator, counts, recent), again @ counts.astype(np.float64)) for counts in self._counts]
        )
        scale = np.maximum(np.quantile(distances, 0.9, axis=1), 1e-6)
        largest = np.quantile((distances / scale[:, None]).max(axis=0), 1.0 - FALSE_ALARMS)
        limits: list[float] = np.maximum(largest * scale, MIN_DISTANCE).tolist()
        return limits


def _draw(generator: np.random.Generator, counts: Ints, recent: Floats) -> Floats:
    """For each replicate the counts by bin of the rows that are drawn from each block, as many as `recent` says."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = np.zeros((len(recent), counts.shape[1]))
    for block in range(len(counts)):
        rows = np.flatnonzero(recent[:, block])
        drawn[rows] += generator.multinomial(recent[rows, block].astype(np.int64), shares[block])
    return drawn


def _distance(a: Floats | Ints, b: Floats | Ints) -> Floats:
    """Kolmogorov and Smirnov's distance of counts by bin, row by row."""
    shares_a, shares_b = (x / x.sum(axis=1, keepdims=True) for x in (a, b))
    distance: Floats = np.abs(np.cumsum(shares_a - shares_b, axis=1)).max(axis=1)
    return distance


def _edges(values: Floats) -> Floats:
    """Bounds of bins that hold about equal parts of the reference; a value that repeats much has a bin of its own."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.array([0.0])
    return np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1), method="lower"))


def _bins(values: Floats, edges: Floats) -> Ints:
    """The bin of each value: below all edges 0, from the i-th on i + 1; unknown values have the last one."""
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right")).astype(np.int64)


def _count_by_block(bins: Ints, blocks: Ints, width: int) -> Ints:
    counts = np.bincount(blocks * width + bins, minlength=(int(blocks.max()) + 1) * width)
    return counts.reshape(-1, width)


def retraining_needed(
    drifted: Sequence[bool], asked_at: datetime | None, now: datetime, *, persists: int, cooldown: timedelta
) -> bool:
    """Whether the last `persists` reports, newest first, all found drift, and training was not asked for lately.

    `asked_at` of the future is of a clock that was ahead.
    """
    persistent = len(drifted) >= persists and all(drifted[:persists])
    return persistent and (asked_at is None or not timedelta(0) <= now - asked_at < cooldown)
