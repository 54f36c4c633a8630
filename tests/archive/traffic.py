"""Simulated traffic around a midnight as the window lane leaves it: transactions, contexts, features and scores."""

from datetime import UTC, date, datetime, timedelta

from tests.features.window_lane import materialize
from txwatch.archive.datasets import ARCHIVED
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.clock import WINDOW, window_range
from txwatch.detection.model import Model
from txwatch.detection.score_windows import score_windows
from txwatch.detection.threshold import publish_recent_scores
from txwatch.lab.evaluation.replay import simulate
from txwatch.store.database import Connection
from txwatch.store.transactions import land_transactions

MIDNIGHT = datetime(2024, 3, 14, tzinfo=UTC)
BEFORE, DAY = date(2024, 3, 13), date(2024, 3, 14)
NOW = datetime(2024, 3, 16, tzinfo=UTC)


def land(connection: Connection, before: timedelta, after: timedelta, rate: float = 3.0) -> list[datetime]:
    """Land traffic from before midnight until after it, and compute its features. Returns its windows."""
    start, end = MIDNIGHT - before, MIDNIGHT + after
    simulated = simulate("2024-03", seed=3, start=start, duration=before + after, rate=rate)
    with connection.transaction():
        land_transactions(connection, simulated.transactions)
    materialize(connection, start, end)
    return window_range(start, end)


def score(connection: Connection, windows: list[datetime], model: Model) -> None:
    """Score window after window, as its run does, whose recent scores decide later ones."""
    for window in windows:
        score_windows(connection, [window], model, whale_btc=500)
        publish_recent_scores(connection, model.version, model.card.alerts_per_hour, window + WINDOW)


def archive_all(connection: Connection, archive: Archive, *days: date) -> None:
    for day in days:
        for dataset in ARCHIVED.values():
            archive_day(connection, archive, dataset, day, NOW)
