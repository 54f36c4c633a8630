"""The alert budget: which score is unusual enough, so that about so many alerts an hour follow.

Method: of the scores of a day of traffic the highest are kept, in order. A budget of b alerts an hour at a rate of r
transactions an hour is the share b / r of them; the threshold is the lowest score that no larger share reaches. The
rate is that of the trailing hour, so that twice the traffic raises the threshold instead of doubling the alerts.

Guarantee: on traffic whose scores are distributed as in that day, the alerts in h hours are binomial about h * b, with
the relative error of the quantile, 1 / sqrt(kept day's scores above the threshold), on top. For 12 an hour over a day
that is 288 +- 17 and +- 6 %. Traffic of another kind breaks the premise: that is what the drift report watches.
"""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from txwatch.features.context import NetworkContext
from txwatch.windows import WINDOW

KEPT_SHARE = 0.05
KEPT_AT_LEAST, KEPT_AT_MOST = 500, 10_000


def highest(scores: NDArray[np.float64]) -> list[float]:
    """The scores that thresholds are read from, the highest first: a twentieth, some hundreds of few."""
    kept = min(KEPT_AT_MOST, max(KEPT_AT_LEAST, int(KEPT_SHARE * len(scores))))
    descending: list[float] = np.sort(scores)[::-1][:kept].tolist()
    return descending


def budget_threshold(
    highest: Sequence[float], rows: int, transactions_per_hour: float, alerts_per_hour: float
) -> float:
    """The lowest score that at most the budget's share of `rows` scores reaches, `highest` being the highest of them.

    Never lower than the lowest of `highest`. A share of less than one row counts as one.
    """
    allowed = max(1, round(rows * min(1.0, alerts_per_hour / transactions_per_hour)))
    if allowed >= len(highest):
        return highest[-1]
    threshold = highest[allowed - 1]
    if highest[allowed] < threshold:
        return threshold
    # More rows than allowed have exactly this score: go up to the next one.
    above = [score for score in highest[:allowed] if score > threshold]
    return above[-1] if above else float(np.nextafter(threshold, np.inf))


def arrivals_per_hour(network: NetworkContext) -> float | None:
    """Transactions an hour by the trailing hour, scaled up where less than an hour is known; None without any."""
    windows = min(network.windows_24h, timedelta(hours=1) // WINDOW)
    return network.tx_count_1h / windows * (timedelta(hours=1) / WINDOW) if windows and network.tx_count_1h else None
