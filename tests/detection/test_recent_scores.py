"""Scores that a threshold follows: published before the windows that they decide in, the same for both lanes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from tests.databases import empty_tables
from tests.features.window_lane import materialize
from tests.modelling import START, model
from txwatch.clock import WINDOW, window_range
from txwatch.detection.model import Model
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score_windows import score_windows
from txwatch.detection.threshold import (
    HOLDS,
    SPAN,
    RecentScores,
    arrivals_per_hour,
    publish_recent_scores,
    read_recent_scores,
)
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.lab.evaluation.replay import simulate
from txwatch.live.lane import LiveScoring
from txwatch.queries.status import read_overview
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

NOW = START + 6 * WINDOW + timedelta(seconds=20)
AS_OF = START + 6 * WINDOW


@pytest.fixture(scope="module")
def trained() -> Model:
    return model(minutes=20, trees=50)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "transactions, transaction_scores, recent_scores, network_baseline, alerts")
        yield connection


def write_scores(
    connection: Connection, seen_at: datetime, scores: list[float], version: str = "1", pattern: int | None = None
) -> None:
    """Each of another pattern, if none is given."""
    connection.execute(
        "INSERT INTO transaction_scores (txid, model_version, context_version, seen_at, lane, score, threshold,"
        " is_anomaly, reasons, pattern) SELECT gen_random_uuid()::text, %s, 1, %s, 'live', score, 0.6, false, '[]',"
        " coalesce(%s, (1000 * score)::bigint) FROM unnest(%s::float8[]) AS score",
        [version, seen_at, pattern, scores],
    )


def test_what_was_scored_in_the_hours_before_is_kept_and_stays(connection: Connection, trained: Model) -> None:
    few = replace(trained, card=msgspec.structs.replace(trained.card, alerts_per_hour=0.5))
    write_scores(connection, AS_OF - SPAN, [0.5, 0.7, 0.3])
    write_scores(connection, AS_OF - timedelta(seconds=1), [0.9, 0.1])
    write_scores(connection, AS_OF, [0.99])
    write_scores(connection, AS_OF - SPAN - timedelta(seconds=1), [0.98])
    write_scores(connection, AS_OF - WINDOW, [0.97], version="2")
    publish_recent_scores(connection, few.version, few.card.alerts_per_hour, NOW)
    assert read_recent_scores(connection, "1", AS_OF) == RecentScores(5, [0.9, 0.7, 0.5])
    write_scores(connection, AS_OF - WINDOW, [0.8])
    publish_recent_scores(connection, few.version, few.card.alerts_per_hour, NOW + timedelta(seconds=200))
    assert read_recent_scores(connection, "1", AS_OF) == RecentScores(5, [0.9, 0.7, 0.5]), "what was published stays"


def test_what_is_alike_counts_once_an_hour(connection: Connection, trained: Model) -> None:
    write_scores(connection, AS_OF - WINDOW, [0.9, 0.8, 0.7], pattern=7)
    write_scores(connection, AS_OF - timedelta(hours=1), [0.6], pattern=7)
    write_scores(connection, AS_OF - WINDOW, [0.5], pattern=8)
    publish_recent_scores(connection, trained.version, trained.card.alerts_per_hour, NOW)
    assert read_recent_scores(connection, "1", AS_OF) == RecentScores(5, [0.9, 0.6, 0.5])


def test_they_decide_from_their_window_on_for_an_hour_and_for_their_model(
    connection: Connection, trained: Model
) -> None:
    write_scores(connection, START, [0.5])
    publish_recent_scores(connection, trained.version, trained.card.alerts_per_hour, NOW)
    assert read_recent_scores(connection, "1", AS_OF - WINDOW) is None
    assert read_recent_scores(connection, "1", AS_OF + HOLDS - WINDOW) is not None
    assert read_recent_scores(connection, "1", AS_OF + HOLDS) is None
    assert read_recent_scores(connection, "2", AS_OF) is None


def test_a_model_that_has_scored_nothing_publishes_nothing(connection: Connection, trained: Model) -> None:
    publish_recent_scores(connection, trained.version, trained.card.alerts_per_hour, NOW)
    assert connection.execute("SELECT count(*) FROM recent_scores").fetchone() == (0,)


def test_both_lanes_follow_the_same_scores_whenever_they_score(connection: Connection, trained: Model) -> None:
    """The live lane scores the sixth window as it arrives; the window lane does so later, when newer rows are there."""
    end = START + 7 * WINDOW
    window = end - WINDOW
    traffic = simulate("2024-03", seed=3, start=START, duration=end - START)
    with connection.transaction():
        land_transactions(connection, traffic.transactions)
    materialize(connection, START, window - WINDOW)
    for as_of, scores in ((window - 3 * WINDOW, [0.75] * 400), (window - 2 * WINDOW, [0.8] * 400)):
        _follow(connection, as_of, scores)
    live = LiveScoring(lambda: trained, CurrentDetectors(500))
    arrived = [tx for tx in traffic.transactions if tx.seen_at >= window]
    for half in (arrived[::2], arrived[1::2]):
        with connection.transaction():
            live.write(connection, half)
        # The next one is published while the window is open, and decides in later ones.
        _follow(connection, window - (1 if half is arrived[::2] else 0) * WINDOW, [0.99] * 400)
    materialize(connection, window, end)
    [result] = score_windows(connection, window_range(window, end), trained, whale_btc=500)
    assert (result.compared, result.differing) == (len(arrived), 0)
    newest = read_overview(connection, end).levels.newest_scored_window
    assert (result.written, newest) == (0, window), "scored, though the live lane left nothing to write"
    thresholds = connection.execute("SELECT DISTINCT threshold FROM transaction_scores").fetchall()
    assert len(thresholds) == 1, "one threshold for the whole window"
    (threshold,) = thresholds[0]
    assert threshold == result.threshold
    trained_for = trained.threshold_at(12 * len(traffic.transactions) / 7)
    assert threshold > trained_for


def test_a_window_is_judged_in_the_context_of_its_features_whatever_was_published_since(
    connection: Connection, trained: Model
) -> None:
    """Recovered traffic makes a second version of a context, and only features that are computed again are of it."""
    end = START + 4 * WINDOW
    window = end - WINDOW
    traffic = simulate("2024-03", seed=3, start=START, duration=end - START).transactions
    with connection.transaction():
        land_transactions(connection, [tx for n, tx in enumerate(traffic) if tx.seen_at >= window or n % 4 == 0])
    materialize(connection, START, end)
    [before] = score_windows(connection, [window], trained, whale_btc=500)
    with connection.transaction():
        land_transactions(connection, traffic)
    *_, second = publish_network_baseline(connection, START, window - WINDOW)
    assert (second.as_of, second.version) == (window - 2 * WINDOW, 2)

    [again] = score_windows(connection, [window], trained, whale_btc=500, lane="shadow")
    assert (again.threshold, again.written) == (before.threshold, 0), "its features are of the first version"

    for _ in write_features(connection, window, end):
        pass
    [anew] = score_windows(connection, [window], trained, whale_btc=500)
    assert (anew.written, anew.threshold) == (before.scored, trained.threshold_at(arrivals_per_hour(second)))
    assert anew.threshold != before.threshold
    assert connection.execute(
        "SELECT context_version, array_agg(DISTINCT threshold) FROM transaction_scores GROUP BY 1 ORDER BY 1"
    ).fetchall() == [(1, [before.threshold]), (2, [anew.threshold])]


def test_features_from_before_there_was_a_context_are_judged_without_one(
    connection: Connection, trained: Model
) -> None:
    end = START + 3 * WINDOW
    window = end - WINDOW
    traffic = simulate("2024-03", seed=3, start=START, duration=end - START).transactions
    with connection.transaction():
        # A quarter of the traffic would lower the threshold.
        land_transactions(connection, [tx for n, tx in enumerate(traffic) if tx.seen_at >= window or n % 4 == 0])
    for _ in write_features(connection, window, end):
        pass
    materialize(connection, START, window)
    [scored] = score_windows(connection, [window], trained, whale_btc=500)
    assert scored.threshold == trained.threshold_at(None)
    assert connection.execute("SELECT DISTINCT context_version FROM transaction_scores").fetchall() == [(0,)]


def _follow(connection: Connection, as_of: datetime, scores: list[float]) -> None:
    connection.execute(
        "INSERT INTO recent_scores (model_version, as_of, rows, highest) VALUES ('1', %s, 60000, %s)"
        " ON CONFLICT DO NOTHING",
        [as_of, scores],
    )
