"""The state of the network: a bucket of counts for each window, summed into trailing hours and days.

Amounts and fee rates are counted in bins of an eighth of an octave, so that windows can be added exactly and a
quantile of any trailing span is known to within 4.5 %, whatever the traffic, without reading a transaction again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from txwatch.features.context import NetworkContext
from txwatch.windows import WINDOW

BINS_PER_OCTAVE = 8
VALUE_OCTAVES = (0, 51)  # 1 sat to 21 million BTC
FEE_RATE_OCTAVES = (-4, 21)  # 1/16 sat/vB to 2 million sat/vB

Histogram = NDArray[np.int64]


@dataclass(frozen=True)
class NetworkBucket:
    """One window's traffic: transactions, their total output in satoshi, and both histograms."""

    window_start: datetime
    tx_count: int
    value_sat: int
    value_histogram: Histogram
    fee_rate_histogram: Histogram


def network_bucket(
    window_start: datetime, value_sat: NDArray[np.int64], fee_rate: NDArray[np.float64]
) -> NetworkBucket:
    """Count one window. `fee_rate` in sat/vB holds NaN where the fee is unknown; those are left out."""
    return NetworkBucket(
        window_start,
        tx_count=len(value_sat),
        value_sat=int(value_sat.sum()),
        value_histogram=_count(value_sat.astype(np.float64), VALUE_OCTAVES),
        fee_rate_histogram=_count(fee_rate[~np.isnan(fee_rate)], FEE_RATE_OCTAVES),
    )


def network_contexts(buckets: Sequence[NetworkBucket], windows: Sequence[datetime]) -> list[NetworkContext]:
    """The context as of each window, from buckets in order of time that reach back a day before the first one."""
    starts = np.array([b.window_start.timestamp() for b in buckets])
    counts = _running_sum([np.array([b.tx_count]) for b in buckets])
    values = _running_sum([b.value_histogram for b in buckets])
    fee_rates = _running_sum([b.fee_rate_histogram for b in buckets])
    contexts = []
    for window in windows:
        end = np.searchsorted(starts, window.timestamp(), side="right")
        hour = np.searchsorted(starts, (window + WINDOW - timedelta(hours=1)).timestamp())
        day = np.searchsorted(starts, (window + WINDOW - timedelta(hours=24)).timestamp())
        contexts.append(
            NetworkContext(
                as_of=window,
                version=0,
                tx_count_1h=int(counts[end, 0] - counts[hour, 0]),
                tx_count_24h=int(counts[end, 0] - counts[day, 0]),
                windows_24h=int(end - day),
                median_value_sat_1h=_quantile(values[end] - values[hour], 0.5, VALUE_OCTAVES),
                median_fee_rate_1h=_quantile(fee_rates[end] - fee_rates[hour], 0.5, FEE_RATE_OCTAVES),
                median_value_sat_24h=_quantile(values[end] - values[day], 0.5, VALUE_OCTAVES),
                p99_value_sat_24h=_quantile(values[end] - values[day], 0.99, VALUE_OCTAVES),
                median_fee_rate_24h=_quantile(fee_rates[end] - fee_rates[day], 0.5, FEE_RATE_OCTAVES),
                p99_fee_rate_24h=_quantile(fee_rates[end] - fee_rates[day], 0.99, FEE_RATE_OCTAVES),
            )
        )
    return contexts


def _count(values: NDArray[np.float64], octaves: tuple[int, int]) -> Histogram:
    low, high = octaves
    size = (high - low) * BINS_PER_OCTAVE
    bins = np.floor((np.log2(np.maximum(values, 2.0**low)) - low) * BINS_PER_OCTAVE).astype(np.int64)
    return np.bincount(np.minimum(bins, size - 1), minlength=size).astype(np.int64)


def _running_sum(rows: Sequence[Histogram]) -> Histogram:
    """Row i is the sum of the first i rows, so that any span is one subtraction."""
    if not rows:
        return np.zeros((1, 1), np.int64)
    return np.concatenate([np.zeros((1, len(rows[0])), np.int64), np.cumsum(np.stack(rows), axis=0)])


def _quantile(histogram: Histogram, q: float, octaves: tuple[int, int]) -> float | None:
    """The q-quantile, interpolated on the log scale within its bin. None of an empty histogram."""
    total = int(histogram.sum())
    if total == 0:
        return None
    running = np.cumsum(histogram)
    rank = q * total
    i = int(np.searchsorted(running, rank))
    before = running[i] - histogram[i]
    return float(2.0 ** (octaves[0] + (i + (rank - before) / histogram[i]) / BINS_PER_OCTAVE))
