"""The sample of traffic is bounded, even in time and steady; rates, fees, campaigns and live alerts are counted."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from txwatch.alerts.alert import Alert
from txwatch.alerts.store import insert_alerts
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.queries.alerts import LiveAlerts, count_live_alerts
from txwatch.queries.traffic import OF_EACH_PART, PARTS, list_campaigns, read_traffic, sample_traffic
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
END = T0 + HOUR


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, transactions, transaction_scores, campaign_transactions")
        yield connection


def land(connection: Connection, count: int, each: timedelta, fee_sat: int = 1_110) -> None:
    rows = [transaction(txid=f"{n:064x}", seen_at=T0 + n * each, fee_sat=fee_sat * (1 + n % 3)) for n in range(count)]
    with connection.transaction():
        land_transactions(connection, rows)


def find_unusual(connection: Connection, n: int, reasons: str = '[{"kind": "whale", "text": "large"}]') -> None:
    connection.execute(
        "INSERT INTO transaction_scores (txid, model_version, context_version, seen_at, lane, score, threshold,"
        " is_anomaly, reasons) SELECT txid, '1', 1, seen_at, 'live', 0.9, 0.5, true, %s FROM transactions"
        " WHERE txid = %s",
        [reasons, f"{n:064x}"],
    )


def test_a_busy_hour_is_sampled_evenly_and_its_unusual_ones_are_all_there(connection: Connection) -> None:
    each = timedelta(seconds=0.5)
    land(connection, 7_200, each)
    find_unusual(connection, 71)
    find_unusual(connection, 72, "[]")
    points = sample_traffic(connection, T0, END)
    ordinary = [point for point in points if not point.kinds]
    assert len(ordinary) <= (PARTS + 1) * OF_EACH_PART
    by_part = {int((point.seen_at - T0) / (HOUR / PARTS)) for point in ordinary}
    assert by_part == set(range(PARTS))
    assert {point.txid: point.kinds for point in points if point.kinds} == {
        f"{71:064x}": ["whale"],
        f"{72:064x}": ["forest"],
    }
    assert len({point.txid for point in points}) == len(points)
    again = {point.txid for point in sample_traffic(connection, T0 + timedelta(seconds=7), END + timedelta(seconds=7))}
    assert len(again & {point.txid for point in points}) > 0.95 * len(points), "the same ones are drawn a moment later"


def test_a_quiet_hour_is_drawn_whole(connection: Connection) -> None:
    land(connection, 60, MINUTE)
    assert {point.txid for point in sample_traffic(connection, T0, END)} == {f"{n:064x}" for n in range(60)}


def test_a_week_of_which_only_the_last_hour_holds_anything_is_sampled_as_that_hour(connection: Connection) -> None:
    land(connection, 7_200, timedelta(seconds=0.5))
    assert len(sample_traffic(connection, END - timedelta(days=7), END)) >= PARTS / 2 * OF_EACH_PART


def test_rates_and_fees_are_those_of_each_span(connection: Connection) -> None:
    land(connection, 60, MINUTE)
    spans = read_traffic(connection, T0, END, 15 * MINUTE)
    assert [(span.since, span.transactions) for span in spans] == [(T0 + n * 15 * MINUTE, 15) for n in range(4)]
    assert {(span.fee_rate_p10, span.fee_rate_p50, span.fee_rate_p90) for span in spans} == {(10.0, 20.0, 30.0)}
    assert read_traffic(connection, END, END + HOUR, MINUTE) == []


def alert(n: int, kind: str, *, late: bool = False) -> Alert:
    at = T0 + n * MINUTE
    return Alert(f"{n:064x}", [kind], Severity.medium, [Reason(kind, "why")], late, at, END, "1")


def test_what_lands_late_is_no_alert_of_the_hour_and_the_budget_binds_the_forest_alone(connection: Connection) -> None:
    with connection.transaction():
        alerts = [alert(1, "whale"), alert(2, "forest"), alert(3, "forest", late=True), alert(4, "whale", late=True)]
        insert_alerts(connection, alerts, [])
    assert count_live_alerts(connection, T0, END) == LiveAlerts(alerts=2, of_the_budget=1)
    assert count_live_alerts(connection, T0, T0 + 2 * MINUTE) == LiveAlerts(alerts=1, of_the_budget=0)


def test_a_campaign_is_listed_with_all_that_are_alike(connection: Connection) -> None:
    land(connection, 60, MINUTE)
    with connection.transaction():
        insert_alerts(connection, [alert(1, "dust_storm"), alert(9, "dust_storm"), alert(30, "whale")], [])
    for n, key in ((1, 1), (2, 1), (3, 1), (9, 9)):
        connection.execute(
            "INSERT INTO campaign_transactions VALUES (%s, %s, 'dust_storm', %s)",
            [f"{n:064x}", f"{key:064x}", T0 + n * MINUTE],
        )
    (campaign,) = list_campaigns(connection, T0, END, 5)
    assert (campaign.alert_key, campaign.transactions, campaign.value_sat) == (f"{1:064x}", 3, 3 * 9_520)
    assert (campaign.first_seen_at, campaign.last_seen_at) == (T0 + MINUTE, T0 + 3 * MINUTE)
    assert list_campaigns(connection, T0 + 10 * MINUTE, END, 5) == []
