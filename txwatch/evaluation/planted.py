"""Planted anomalies as a set of their own, to be mixed into any background: real traffic, or the windows of a gate."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from txwatch.evaluation.labelled import Labelled, simulate
from txwatch.simulator.regimes import REGIMES

PLANTS_PER_HOUR: Mapping[str, float] = {
    "fee_accident": 50.0,
    "whale": 50.0,
    "coinjoin": 50.0,
    "dormant_round_move": 50.0,
    "dust_storm": 4.0,
}
DURATION = timedelta(hours=4)
"""In all 200 of each kind, and 16 storms of 20 to 60 transactions."""
SEED = 20_240_314
START = datetime(2024, 3, 14, tzinfo=UTC)


def planted(median_fee_rate: float) -> Labelled:
    """Planted anomalies that pay what others pay when the median fee rate (sat/vB) is that of the nearest regime."""
    regime = min(REGIMES.values(), key=lambda r: abs(np.log(_median(r.fee_rate) / median_fee_rate)))
    traffic = simulate(
        regime.name, seed=SEED, start=START, duration=DURATION, rate=0.01, plants_per_hour=PLANTS_PER_HOUR
    )
    rows = [row for row, label in enumerate(traffic.labels) if label is not None]
    return Labelled([traffic.transactions[row] for row in rows], [traffic.labels[row] for row in rows])


def _median(knots: Sequence[tuple[float, float]]) -> float:
    shares, values = zip(*knots, strict=True)
    return float(np.interp(0.5, shares, values))
