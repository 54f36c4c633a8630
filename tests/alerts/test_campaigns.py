"""Campaigns in a real Postgres: transactions that are alike have one alert, whose message counts them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.alerts.accelerated import ORIGIN
from tests.builders import transaction
from tests.databases import empty_tables
from txwatch.alerts.alert import Alert, ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import TOLD_EVERY, Campaigns
from txwatch.alerts.store import insert_alerts, raise_window_alerts, read_sent_message
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.detection.score_windows import insert_scores
from txwatch.queries.alerts import list_alerts, list_anomalies
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

CHAT = "42"
MATERIAL, WORTHLESS = 71, 70
"""Patterns: the last bit says whether it is material."""
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "transactions, transaction_scores, alerts")
        yield connection


UNUSUAL = Reason("forest", "odd")


def score(n: int, pattern: int = MATERIAL, *reasons: Reason, after: timedelta = timedelta(0)) -> Score:
    seen_at = ORIGIN + n * SECOND + after
    return Score(f"{n:064x}", seen_at, 0.9, 0.8, True, [*reasons, UNUSUAL], pattern)


def alert(one: Score) -> Alert:
    (raised,) = raise_alerts([ScoredTransaction(one, "feed", "3")], one.seen_at + SECOND)
    return raised


def land(connection: Connection, *scores: Score) -> list[str]:
    """As the live lane does. Returns the keys of new alerts."""
    with connection.transaction():
        land_transactions(connection, [transaction(txid=s.txid, seen_at=s.seen_at) for s in scores])
        insert_scores(connection, scores, "3", 1, lane="live")
        return insert_alerts(connection, [alert(one) for one in scores], [CHAT])


def told(connection: Connection) -> dict[str, str]:
    """What is said of each alert's campaign."""
    rows = connection.execute(
        "SELECT alert_key, text FROM alert_updates WHERE starts_with(update_key, 'campaign:') ORDER BY created_at"
    )
    return dict(rows.fetchall())


def test_what_is_alike_within_an_hour_is_one_alert_that_counts_them(connection: Connection) -> None:
    assert land(connection, score(1)) == [score(1).txid]
    assert land(connection, score(2), score(3)) == []
    assert told(connection) == {
        score(1).txid: "🔁 3 alike since 12:00:01: 1 in, 1 out, 9,520 sat each, 28,560 sat in all"
    }
    (one,) = list_alerts(connection).items
    assert (one.alert_key, one.alike) == (score(1).txid, 3)
    (shown,) = list_anomalies(connection).items
    assert (shown.txid, shown.alike) == (score(1).txid, 3)
    assert connection.execute("SELECT count(*) FROM alert_deliveries").fetchone() == (1,)


def test_a_message_is_edited_once_a_minute_and_in_the_end_by_the_window(connection: Connection) -> None:
    land(connection, score(1), score(2))
    land(connection, score(3))
    assert told(connection)[score(1).txid].startswith("🔁 2 alike")
    land(connection, score(4, after=TOLD_EVERY))
    assert told(connection)[score(1).txid].startswith("🔁 4 alike")
    land(connection, score(5, after=TOLD_EVERY))
    start = ORIGIN
    for _ in range(2):
        assert raise_window_alerts(connection, start, start + HOUR, [CHAT], start + HOUR) == []
        assert told(connection)[score(1).txid].startswith("🔁 5 alike")
    connection.execute("UPDATE alert_deliveries SET state = 'sent', message_id = 1, sent_at = %s", [ORIGIN])
    (shown,) = read_sent_message(connection, CHAT, score(1).txid).updates
    assert shown.startswith("🔁 5 alike")


@pytest.mark.parametrize(
    ("pattern", "gap", "alerts"), [(MATERIAL, 0.9, 1), (MATERIAL, 1.1, 2), (WORTHLESS, 23, 1), (WORTHLESS, 25, 2)]
)
def test_a_campaign_ends_after_an_hour_and_what_is_of_no_worth_is_news_once_a_day(
    connection: Connection, pattern: int, gap: float, alerts: int
) -> None:
    land(connection, score(1, pattern))
    land(connection, score(2, pattern, after=gap * HOUR))
    assert len(list_alerts(connection).items) == alerts


def test_a_campaign_goes_on_as_long_as_its_transactions_follow_each_other(connection: Connection) -> None:
    for n in range(6):
        land(connection, score(n + 1, after=n * 0.9 * HOUR))
    (one,) = list_alerts(connection).items
    assert one.alike == 6


def test_other_patterns_and_what_a_rule_raised_too_stand_for_themselves(connection: Connection) -> None:
    whale = score(3, MATERIAL, Reason("whale", "700 BTC"))
    assert set(land(connection, score(1), score(2, MATERIAL + 2), whale)) == {f"{n:064x}" for n in (1, 2, 3)}


def test_the_window_lane_raises_nothing_of_what_joined_and_finds_what_the_live_lane_missed(
    connection: Connection,
) -> None:
    land(connection, score(1), score(2))
    missed = score(3)
    with connection.transaction():
        land_transactions(connection, [transaction(txid=missed.txid, seen_at=missed.seen_at)])
        insert_scores(connection, [missed], "3", 1, lane="window")
    for _ in range(2):
        assert raise_window_alerts(connection, ORIGIN, ORIGIN + HOUR, [CHAT], ORIGIN + HOUR) == []
        (one,) = list_alerts(connection).items
        assert one.alike == 3


def test_what_was_rolled_back_joined_nothing(connection: Connection) -> None:
    land(connection, score(1))
    with connection.transaction(force_rollback=True):
        insert_alerts(connection, [alert(score(2))], [CHAT])
    (one,) = list_alerts(connection).items
    assert one.alike == 1


def test_out_of_order_it_is_the_same() -> None:
    alerts = [alert(score(n)) for n in (3, 1, 2)]
    campaigns = Campaigns()
    assert [a.alert_key for a in campaigns.first_of_each(alerts)] == [score(1).txid]
    earlier = replace(alerts[0], alert_key="ee" * 32, seen_at=ORIGIN - timedelta(minutes=30))
    assert campaigns.first_of_each([earlier]) == []
