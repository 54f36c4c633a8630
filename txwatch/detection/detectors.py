"""Detectors: absolute rules, each of which claims one thing and says in words what it saw.

Belongs here: rules that hold in any traffic. What is unusual relative to the traffic is the forest's to find.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.reasons import SAT, Reason, btc, times
from txwatch.features.batch import TransactionBatch
from txwatch.features.contract import FEATURE_NAMES

Finding = tuple[int, Reason]
"""A transaction's row in the batch, and what is said of it."""


class Detector(Protocol):
    """Looks at a batch of n transactions and their features of shape (n, len(FEATURE_NAMES))."""

    @property
    def kind(self) -> str:
        """Its name, as alerts show it."""
        ...

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """The rows that the rule fits, each with its reason."""
        ...


def column(features: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """One feature of every row."""
    values: NDArray[np.float64] = features[:, FEATURE_NAMES.index(name)]
    return values


@dataclass(frozen=True)
class FeeAccident:
    """A fee that nobody pays on purpose: large in itself, and far above what space costs.

    A large fee alone is no accident (20,000 inputs cost 0.7 BTC at 50 sat/vB), nor is a high rate alone (a bidding war
    pays it for a small transaction), nor is a fee above half of the input (ordinary in inscriptions).
    """

    kind: str = "fee_accident"
    min_fee_sat: float = 0.01 * SAT
    min_times_median: float = 20.0
    min_fee_rate: float = 500.0
    """sat/vB; counts while no median is known."""

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        fee, rate = column(features, "fee_sat"), column(features, "fee_rate")
        ratio = column(features, "fee_rate_over_median_1h")
        absurd = np.where(np.isnan(ratio), rate >= self.min_fee_rate, ratio >= self.min_times_median)
        for row in np.flatnonzero((fee >= self.min_fee_sat) & absurd):
            share = fee[row] / (fee[row] + batch.value_sat[row])
            text = f"fee of {btc(fee[row])}, {share:.0%} of what was spent, at {rate[row]:,.0f} sat/vB"
            if not np.isnan(ratio[row]):
                text += f", {times(ratio[row])} the median of the last hour"
            yield int(row), Reason(self.kind, text, "fee_sat", float(fee[row]))


@dataclass(frozen=True)
class Whale:
    """A large value that likely changed hands: outputs without the sender's change."""

    min_moved_sat: float
    kind: str = "whale"

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        moved = column(features, "moved_sat")
        for row in np.flatnonzero(moved >= self.min_moved_sat):
            text = f"{btc(moved[row])} likely moved"
            if batch.value_sat[row] > moved[row]:
                text += f", of outputs of {btc(float(batch.value_sat[row]))}"
            yield int(row), Reason(self.kind, text, "moved_sat", float(moved[row]))


def default_detectors(*, whale_btc: float) -> list[Detector]:
    """The detectors of the product, in the order in which their reasons are given."""
    return [FeeAccident(), Whale(whale_btc * SAT)]
