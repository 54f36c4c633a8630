"""The alert budget: which score is unusual enough for about so many alerts an hour, and the recent scores it follows.

Method: of the scores of a day of traffic the highest are kept, in order: one of each pattern in each hour, for all that
are alike have one alert (`txwatch.detection.patterns`). A budget of b alerts an hour at a rate of r
transactions an hour is the share b / r of them; the threshold is the lowest score that no larger share reaches. The
rate is that of the trailing hour, so that twice the traffic raises the threshold instead of doubling the alerts.

Guarantee: on traffic whose scores are distributed as in that day, the alerts in h hours are binomial about h * b, with
the relative error of the quantile, 1 / sqrt(kept day's scores above the threshold), on top. For 12 an hour over a day
that is 288 +- 17 and +- 6 %. Traffic of another kind breaks the premise: the drift report watches for it.

A day that was not whole breaks it too: the trailing day of addresses still fills up, and the hours after score higher.
So the threshold follows the scores of the last hours (`RecentScores`): it is what would have kept the budget in them,
but not below that of the training day (floods of ordinary transactions would dilute the share and let more alerts
through), and not above the one at which that day's scores would have spent a LEAST_SHARE of the budget (storms must not
buy silence for what comes after). With recent hours of n alerts by the budget the relative error is 1 / sqrt(n): 17 %
for 12 an hour over three hours.

A row holds a model's scores in the hours before the window `as_of`, and is written while that window is open. It
decides in the windows from `as_of` + 2 on, like a context, and is never changed: both lanes find the same row whenever
they look, and have the same threshold. A backfill of old windows finds the rows of their time, and writes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from txwatch.clock import WINDOW, window_start
from txwatch.features.context import NetworkContext
from txwatch.store.database import Connection, statement

LEAST_SHARE = 0.25
SPAN = timedelta(hours=3)
"""Of recent scores. Short enough to follow a trailing day that fills up; half of it would be more subject to chance."""
HOLDS = timedelta(hours=1)
"""Without a newer row for so long the threshold is that of the training day again."""
KEPT_TIMES = 2
"""Budgets of the span that are kept of its scores: as far as the threshold goes when the rate falls to half."""


@dataclass(frozen=True)
class RecentScores:
    """A model's scores in the last hours: how many, and the highest of them, the highest first."""

    rows: int
    highest: Sequence[float]


def highest(scores: NDArray[np.float64], rows: int) -> list[float]:
    """The scores that thresholds are read from, the highest first: of a twentieth of the rows, but 500 to 10,000."""
    kept = min(10_000, max(500, int(0.05 * rows)))
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


def following_threshold(
    highest: list[float], rows: int, transactions_per_hour: float, alerts_per_hour: float, recent: RecentScores | None
) -> float:
    """The threshold of the training day, raised within its bound to what keeps the budget on recent scores.

    Recent scores of less than an hour of traffic decide nothing.
    """
    trained = budget_threshold(highest, rows, transactions_per_hour, alerts_per_hour)
    if recent is None or recent.rows < transactions_per_hour:
        return trained
    followed = budget_threshold(recent.highest, recent.rows, transactions_per_hour, alerts_per_hour)
    most = budget_threshold(highest, rows, transactions_per_hour, LEAST_SHARE * alerts_per_hour)
    return max(trained, min(followed, most))


def arrivals_per_hour(network: NetworkContext) -> float | None:
    """Transactions an hour by the trailing hour, scaled up where less than an hour is known; None without any."""
    windows = min(network.windows_24h, timedelta(hours=1) // WINDOW)
    return network.tx_count_1h / windows * (timedelta(hours=1) / WINDOW) if windows and network.tx_count_1h else None


def scores_kept(alerts_per_hour: float) -> int:
    """How many of the highest scores a row holds."""
    return max(1, round(KEPT_TIMES * alerts_per_hour * (SPAN / timedelta(hours=1))))


def publish_recent_scores(connection: Connection, model_version: str, alerts_per_hour: float, now: datetime) -> None:
    """Write a model's row as of the window that is open now. One that is there stays as it is."""
    as_of = window_start(now)
    connection.execute(
        statement("detection", "publish_recent_scores"),
        {"model_version": model_version, "since": as_of - SPAN, "as_of": as_of, "kept": scores_kept(alerts_per_hour)},
    )


def read_recent_scores(connection: Connection, model_version: str, as_of: datetime) -> RecentScores | None:
    """The scores that decide for transactions whose context is as of this window, None if there are none."""
    row = connection.execute(
        "SELECT rows, highest FROM recent_scores WHERE model_version = %s AND as_of <= %s AND as_of > %s"
        " ORDER BY as_of DESC LIMIT 1",
        [model_version, as_of, as_of - HOLDS],
    ).fetchone()
    return None if row is None else RecentScores(*row)
