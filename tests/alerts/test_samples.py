"""The daily sample of what raised no alert, in a real Postgres: what is drawn, and what the answers say."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.alerts.accelerated import ORIGIN
from tests.builders import transaction
from tests.databases import empty_tables
from txwatch.alerts.alert import LATE_AFTER
from txwatch.alerts.planning import ChannelState, PendingAlert, SendAlert, next_step
from txwatch.alerts.samples import SAMPLE, Misses, raise_sample, read_misses
from txwatch.alerts.store import read_alerts, record_verdict
from txwatch.detection.kinds import Severity
from txwatch.detection.score import Score
from txwatch.detection.score_windows import insert_scores
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

CHAT = "42"
DAY = timedelta(days=1)
SCORED = 2_000
NEXT_MORNING = ORIGIN.replace(hour=9) + DAY


def score(n: int, rank: int) -> Score:
    return Score(f"{n:064x}", ORIGIN + timedelta(seconds=n), rank / SCORED, 0.9999, False, [], None)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A day of transactions that raised nothing: the score of the n-th rises with n."""
    with connect(database_url) as connection:
        empty_tables(connection, "transactions, transaction_scores, alerts")
        scores = [score(n, n) for n in range(SCORED)]
        with connection.transaction():
            land_transactions(connection, [transaction(txid=s.txid, seen_at=s.seen_at) for s in scores])
            insert_scores(connection, scores, "3", 1, lane="live")
        yield connection


def test_it_is_drawn_from_the_most_unusual_hundredth_that_raised_nothing(connection: Connection) -> None:
    (alerted,) = raise_sample(connection, 1, [CHAT], NEXT_MORNING)
    connection.execute("UPDATE alerts SET kinds = '{whale}'")  # as if it had alerted by itself
    joined = next(score(n, n) for n in range(SCORED - 20, SCORED) if score(n, n).txid != alerted)
    connection.execute(
        "INSERT INTO campaign_transactions (txid, alert_key, event, seen_at) VALUES (%s, %s, 'forest:1', %s)",
        [joined.txid, alerted, joined.seen_at],
    )
    drawn = raise_sample(connection, 50, [CHAT], NEXT_MORNING)
    assert {int(txid, 16) for txid in [*drawn, alerted, joined.txid]} == set(range(SCORED - 20, SCORED))
    assert not {alerted, joined.txid} & set(drawn)
    (alert, *_) = read_alerts(connection, drawn)
    assert (alert.kinds, alert.severity, alert.model_version) == ([SAMPLE], Severity.low, "3")
    assert connection.execute("SELECT DISTINCT chat_id FROM alert_deliveries").fetchall() == [(CHAT,)]


def test_a_day_is_asked_about_once_and_by_what_is_said_of_it_last(connection: Connection) -> None:
    with connection.transaction():  # by its window the last one is as ordinary as can be
        insert_scores(connection, [score(SCORED - 1, 0)], "3", 2, lane="window")
    drawn = raise_sample(connection, 50, [CHAT], NEXT_MORNING)
    assert f"{SCORED - 1:064x}" not in drawn
    assert raise_sample(connection, 50, [CHAT], NEXT_MORNING + timedelta(hours=1)) == []
    assert raise_sample(connection, 50, [CHAT], NEXT_MORNING + DAY) == [], "nothing was seen on that day"


def test_answers_estimate_what_is_missed(connection: Connection) -> None:
    assert read_misses(connection, ORIGIN, NEXT_MORNING) is None
    first, second, *_ = raise_sample(connection, 10, [CHAT], NEXT_MORNING)
    record_verdict(connection, first, "useful", NEXT_MORNING, "key:owner")
    record_verdict(connection, second, "noise", NEXT_MORNING, "key:owner")
    assert read_misses(connection, ORIGIN, NEXT_MORNING) == Misses(judged=2, useful=1, a_day=20)


@pytest.mark.parametrize(
    ("useful", "missed", "low", "high"),
    # Bounds as in tables of the binomial distribution: https://www.statsmodels.org, proportion_confint(method="beta").
    [(0, 0, 0.0, 0.1157), (3, 0.1, 0.0211, 0.2653), (30, 1, 0.8843, 1.0)],
)
def test_the_bounds_of_the_estimate(useful: int, missed: float, low: float, high: float) -> None:
    assert Misses(30, useful, 10_000).missed_a_day == pytest.approx(
        (10_000 * missed, 10_000 * low, 10_000 * high), abs=1
    )


def test_its_message_has_buttons_though_it_is_a_day_old() -> None:
    asked = PendingAlert("a", SAMPLE, Severity.low, False, NEXT_MORNING - DAY, NEXT_MORNING)
    assert next_step(ChannelState([asked]), NEXT_MORNING) == SendAlert("a")
    assert NEXT_MORNING - asked.seen_at > LATE_AFTER
