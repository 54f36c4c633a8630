"""The state of the network: a bucket of counts for each window, summed into trailing hours and days.

Amounts and fee rates are counted in bins of an eighth of an octave, so that windows can be added exactly and a
quantile of any trailing span is known to within 4.5 %, whatever the traffic, without reading a transaction again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txwatch.features.context import NetworkContext
from txwatch.features.kinds import KINDS, transaction_kinds
from txwatch.windows import WINDOW

BINS_PER_OCTAVE = 8
VALUE_OCTAVES = (0, 51)  # 1 sat to 21 million BTC
FEE_RATE_OCTAVES = (-4, 21)  # 1/16 sat/vB to 2 million sat/vB
QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99}
SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24)}

Histogram = NDArray[np.int64]


@dataclass(frozen=True)
class NetworkBucket:
    """One window's traffic: transactions, their total output in satoshi, counts by kind, and both histograms."""

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
    kinds = transaction_kinds(columns.input_count, columns.output_count)
    value_bins = _bins(columns.value_sat.astype(np.float64), VALUE_OCTAVES)
    fee_rate_bins = _bins(columns.fee_rate, FEE_RATE_OCTAVES)
    known = ~np.isnan(columns.fee_rate)
    return [
        NetworkBucket(
            window,
            tx_count=end - start,
            value_sat=sum(columns.value_sat[start:end].tolist()),  # of hostile amounts, more than an int64 holds
            kind_counts=np.bincount(kinds[start:end], minlength=len(KINDS)),
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
    values = _running_sum([b.value_histogram for b in buckets])
    fee_rates = _running_sum([b.fee_rate_histogram for b in buckets])
    contexts = []
    for window in windows:
        end = int(np.searchsorted(starts, window.timestamp(), side="right"))
        of: dict[str, Any] = {}
        for span, length in SPANS.items():
            begin = int(np.searchsorted(starts, (window + WINDOW - length).timestamp()))
            of[f"tx_count_{span}"] = int(counts[end, 0] - counts[begin, 0])
            of[f"kind_counts_{span}"] = tuple((kinds[end] - kinds[begin]).tolist())
            for what, sums, octaves in (
                ("value_sat", values, VALUE_OCTAVES),
                ("fee_rate", fee_rates, FEE_RATE_OCTAVES),
            ):
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
