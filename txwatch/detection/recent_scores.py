"""`recent_scores` in Postgres: what the threshold of a window follows, written before that window begins.

A row holds what a model's scores were in the hours before the window `as_of`, and is written while that window is open.
It decides in the windows from `as_of` + 2 on, like a context: at least a whole window later, so that a lane which
scores one of them finds the same row whenever it looks, and both lanes have the same threshold. It is never changed. A
backfill of old windows finds the rows of their time, and writes none for them.
"""

from datetime import datetime, timedelta

from txwatch.detection.model import Model
from txwatch.detection.threshold import RecentScores
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.windows import window_start

SPAN = timedelta(hours=3)
"""Short enough to follow a trailing day that fills up; half of it would be no quicker, and more subject to chance."""
HOLDS = timedelta(hours=1)
"""Without a newer row for so long the threshold is that of the training day again."""
KEPT_TIMES = 2
"""So many times the span's budget of scores is kept: as far as the threshold goes when the rate falls to half."""


def scores_kept(model: Model) -> int:
    """How many of the highest scores a row holds."""
    return max(1, round(KEPT_TIMES * model.card.alerts_per_hour * (SPAN / timedelta(hours=1))))


def publish_recent_scores(connection: Connection, model: Model, now: datetime) -> None:
    """Write a model's row as of the window that is open now. One that is there stays as it is."""
    as_of = window_start(now)
    connection.execute(
        statement(__file__, "publish_recent_scores"),
        {"model_version": model.version, "since": as_of - SPAN, "as_of": as_of, "kept": scores_kept(model)},
    )


def read_recent_scores(connection: Connection, model_version: str, as_of: datetime) -> RecentScores | None:
    """The scores that decide for transactions whose context is as of this window, None if there are none."""
    row = connection.execute(
        "SELECT rows, highest FROM recent_scores WHERE model_version = %s AND as_of <= %s AND as_of > %s"
        " ORDER BY as_of DESC LIMIT 1",
        [model_version, as_of, as_of - HOLDS],
    ).fetchone()
    return None if row is None else RecentScores(*row)
