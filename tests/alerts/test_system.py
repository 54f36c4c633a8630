"""Alerts about the system: one when it goes wrong, one when it is over, and not more often than that."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import transaction
from txwatch.alerts.alert import record_move
from txwatch.alerts.bot import record_bot_status
from txwatch.alerts.conditions import REPEAT_AFTER, Condition, State, condition_alerts, no_longer_checked, read_raised
from txwatch.alerts.deliveries import take_over
from txwatch.alerts.health import (
    FEED_SILENT,
    LANDING_LAG,
    WORKER_ABSENT,
    Health,
    conditions,
    drift_condition,
    failed_jobs,
    failed_run,
    read_health,
    record_health,
    succeeded_job,
    unscored_windows,
    windows_condition,
)
from txwatch.alerts.store import insert_alerts
from txwatch.archive.days import Troubles
from txwatch.clock import utc_now, window_key
from txwatch.detection.kinds import Severity
from txwatch.queries.status import latest_health
from txwatch.store.database import Connection, connect
from txwatch.store.lease import Lease, renew_lease, take_lease
from txwatch.store.transactions import land_transactions

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LEASE = Lease(3, "run 1234", T0 - 60 * MINUTE, T0, T0 + 60 * MINUTE, None, T0, T0 - SECOND, 0, 0, 0)
WELL = Health(LEASE, 0.2 * SECOND, 0, None, 0.5)


def tell(connection: Connection, conditions_: Sequence[Condition], now: datetime) -> list[str]:
    return insert_alerts(connection, condition_alerts(conditions_, read_raised(connection), now), ["1"])


def wrong(health: Health, now: datetime = T0) -> dict[str, str]:
    return {c.name: c.text for c in conditions(health, now) if c.state is State.wrong}


def test_a_condition_is_told_once_and_its_end_once(database_url: str) -> None:
    bad = Condition("feed_silent", State.wrong, "The feed is silent", T0)
    well = Condition("feed_silent", State.well, "The feed is heard again")
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert tell(connection, [well], T0) == []
        assert tell(connection, [bad], T0 + MINUTE) == ["system:feed_silent:20240314T120000"]
        assert tell(connection, [replace(bad, since=T0 + SECOND)], T0 + 60 * MINUTE) == []
        assert tell(connection, [Condition("feed_silent", State.unknown)], T0 + 61 * MINUTE) == []
        assert tell(connection, [well], T0 + 90 * MINUTE) == ["system:feed_silent:20240314T120000:recovered"]
        assert tell(connection, [well], T0 + 91 * MINUTE) == []
        row = connection.execute("SELECT severity, reasons->0->>'text' FROM alerts WHERE kinds = '{recovered}'")
        assert row.fetchone() == (Severity.low.name, "The feed is heard again, after 90 min")


def test_what_comes_and_goes_is_not_told_each_time(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        for minute in range(60):
            now = T0 + minute * MINUTE
            state = State.wrong if minute % 2 == 0 else State.well
            tell(connection, [Condition("feed_silent", state, "x", now)], now)
        row = connection.execute("SELECT count(*) FROM alerts WHERE kinds = '{system}'").fetchone()
    assert row is not None
    assert row[0] <= 60 * MINUTE / REPEAT_AFTER


def test_what_was_told_while_the_clock_was_ahead_silences_nothing_later(database_url: str) -> None:
    now = utc_now() - 60 * MINUTE
    bad, well = (Condition("disk_full", state, "The disk is nearly full") for state in (State.wrong, State.well))
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        for moment in (now + timedelta(days=365), now):
            raised = [tell(connection, [bad], moment + n * MINUTE) for n in range(3)]
            assert [len(keys) for keys in raised] == [1, 0, 0]
            assert tell(connection, [well], moment + 3 * MINUTE) == [f"{raised[0][0]}:recovered"]


def test_a_failed_job_is_told_once_until_it_succeeds(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        for n in range(3):
            tell(connection, [failed_run("score_windows", f"run{n}", "it broke\n" * 900, T0)], T0 + n * MINUTE)
        tell(connection, [failed_run("training", "run9", "", T0)], T0)
        assert set(failed_jobs(read_raised(connection))) == {"score_windows", "training"}
        assert tell(connection, [succeeded_job("training")], T0 + MINUTE)
        assert set(failed_jobs(read_raised(connection))) == {"score_windows"}


def test_all_is_well() -> None:
    assert wrong(WELL) == {}


@pytest.mark.parametrize(
    ("health", "now", "name", "words"),
    [
        (WELL, T0 + WORKER_ABSENT + SECOND, "lease_stale", "run 1234 was last heard at 12:00:00"),
        (replace(WELL, lease=replace(LEASE, released_at=T0 - 2 * WORKER_ABSENT)), T0, "lease_stale", "Nobody follows"),
        (
            replace(WELL, lease=replace(LEASE, heard_at=T0 - FEED_SILENT - SECOND)),
            T0,
            "feed_silent",
            "nothing for 91 s",
        ),
        (replace(WELL, lease=replace(LEASE, heard_at=None)), T0, "feed_silent", "since 11:00:00"),
        (replace(WELL, landing_lag=LANDING_LAG + SECOND), T0, "landing_lag", "over 6 s"),
        (
            replace(WELL, dead_letters=2, dead_reason="blocked"),
            T0,
            "dead_letters",
            "2 alerts of the last hour can never be sent: blocked",
        ),
        (replace(WELL, disk_free_share=0.01), T0, "disk_full", "1.0% is free"),
        (
            replace(WELL, archive=Troubles([T0.date()], ["features of 2024-03-13: its file is damaged"])),
            T0,
            "archive",
            "features of 2024-03-13: its file is damaged; not in the archive, and so kept in the database: 2024-03-14",
        ),
    ],
)
def test_what_is_wrong_is_said(health: Health, now: datetime, name: str, words: str) -> None:
    found = wrong(health, now)
    assert list(found) == [name]
    assert words in found[name]


def test_an_archive_that_has_every_day_is_well() -> None:
    assert wrong(replace(WELL, archive=Troubles([], []))) == {}


def test_without_a_worker_the_feed_is_not_called_silent_and_a_handover_is_no_absence() -> None:
    handed_over = replace(WELL, lease=replace(LEASE, released_at=T0 - 20 * SECOND, heard_at=T0 - 60 * MINUTE))
    assert wrong(handed_over) == {}
    assert wrong(replace(WELL, lease=None)) == {}
    just_taken = replace(WELL, lease=replace(LEASE, acquired_at=T0 - SECOND, heard_at=T0 - 60 * MINUTE))
    assert wrong(just_taken) == {}
    assert {c.name: c.state for c in conditions(just_taken, T0)}["feed_silent"] is State.unknown


def test_a_feed_that_is_silent_is_told_also_after_a_clock_was_set_back(database_url: str, tmp_path: Path) -> None:
    def found(connection: Connection, now: datetime) -> State:
        return {c.name: c.state for c in conditions(read_health(connection, tmp_path, now), now)}["feed_silent"]

    back = T0 - 60 * MINUTE
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        epoch = take_lease(connection, "run 1", T0, None)
        renew_lease(connection, epoch, T0, T0, heard=True)
        assert found(connection, T0) is State.well
        for seconds in range(0, 120, 10):
            now = back + seconds * SECOND
            renew_lease(connection, epoch, now, T0)
            silent = now - back > FEED_SILENT
            assert found(connection, now) is (State.wrong if silent else State.well), seconds
        # Its worker gives each transaction the time of the last one and a microsecond.
        land_transactions(connection, [transaction(seen_at=T0 + timedelta(microseconds=1))])
        renew_lease(connection, epoch, now, T0, heard=True)
        assert found(connection, now) is State.well


def test_checks_of_while_the_clock_was_ahead_are_not_the_last_ones(database_url: str) -> None:
    bad, well = Condition("disk_full", State.wrong, "full"), Condition("disk_full", State.well, "has room")
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        record_health(connection, [bad], T0 + 60 * MINUTE)
        for minute in range(3):
            assert record_health(connection, [well], T0 + minute * MINUTE) == (minute == 0)
        assert [(check.name, check.state) for check in latest_health(connection)] == [("disk_full", "well")]


def test_what_a_chat_refused_that_gets_no_alerts_any_more_is_over(database_url: str, tmp_path: Path) -> None:
    def checked(connection: Connection, now: datetime, *chats: str) -> list[str]:
        found = conditions(read_health(connection, tmp_path, now, chats), now)
        record_health(connection, found, now)
        insert_alerts(connection, condition_alerts(found, read_raised(connection), now), [])
        return [f"{c.name} {c.state.value}: {c.text}" for c in found if c.name.startswith("chat_refuses:")]

    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        for chat_id in ("-5", "-6"):
            take_over(connection, chat_id, T0)
            connection.execute("UPDATE channels SET refused_since = %s, refusal = 'no rights'", [T0])
        assert ["wrong" in line for line in checked(connection, T0, "-5", "-6")] == [True, True]
        record_move(connection, "-5", "-1005")
        assert checked(connection, T0 + MINUTE, "-5") == [
            "chat_refuses:-1005 well: Chat -1005 takes messages again",
            "chat_refuses:-5 well: Chat -5 is -1005 now",
            "chat_refuses:-6 well: Chat -6 gets no alerts any more",
        ]
        assert checked(connection, T0 + 2 * MINUTE, "-5") == [
            "chat_refuses:-1005 well: Chat -1005 takes messages again"
        ]
        standing = {name for name, raised in read_raised(connection).items() if raised.standing}
        assert standing == set()
        checks = latest_health(connection, private=True)
        assert {check.state for check in checks if "chat" in check.name} == {"well"}


def test_what_nothing_checks_any_more_is_over(database_url: str) -> None:
    conditions_ = [Condition(name, State.wrong, "x", T0) for name in ("archive", "disk_full", "chat_refuses:siem")]
    lasting = Condition("no_block", State.wrong, "no block", T0, "no_block")
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert len(tell(connection, [*conditions_, lasting], T0)) == 4
        over = no_longer_checked({"disk_full"}, read_raised(connection))
        assert [(one.name, one.text) for one in over] == [
            ("archive", "archive is no longer checked"),
            ("chat_refuses:siem", "chat_refuses:siem is no longer checked"),
        ]
        tell(connection, over, T0 + MINUTE)
        assert no_longer_checked({"disk_full"}, read_raised(connection)) == [], "it is said once"
        standing = {name for name, raised in read_raised(connection).items() if raised.standing}
        assert standing == {"disk_full", "no_block"}, "and what the network does ends by itself"


def test_without_a_chat_no_bot_is_missed(database_url: str, tmp_path: Path) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        record_bot_status(connection, T0 - 5 * MINUTE, "Conflict: terminated by other getUpdates request")
        record_bot_status(connection, T0, "Conflict: terminated by other getUpdates request")
        found = {chats: conditions(read_health(connection, tmp_path, T0, chats), T0) for chats in ((), ("5",))}
    assert "bot_hears_nothing" not in {one.name for one in found[()]}
    assert [one.state for one in found["5",] if one.name == "bot_hears_nothing"] == [State.wrong]


def test_lag_is_not_told_before_a_worker_has_run_for_a_minute() -> None:
    lagging = replace(WELL, landing_lag=LANDING_LAG + SECOND, lease=replace(LEASE, acquired_at=T0 - 59 * SECOND))
    assert {c.name: c.state for c in conditions(lagging, T0)}["landing_lag"] is State.unknown
    assert list(wrong(lagging, T0 + 2 * SECOND)) == ["landing_lag"]


@pytest.mark.parametrize(
    ("drifted", "state"),
    [
        ([], State.unknown),
        ([True, True], State.unknown),
        ([True, False, True], State.unknown),
        ([True, True, True], State.wrong),
        ([False, True, True], State.well),
        ([False], State.well),
    ],
)
def test_drift_is_told_when_it_persists_and_is_over_with_one_report(drifted: list[bool], state: State) -> None:
    assert drift_condition(drifted, 0.4, T0, persists=3).state is state


def test_windows_are_given_time_to_be_scored() -> None:
    keys = [window_key(T0 - minutes * MINUTE) for minutes in (60, 30, 15, 5)]
    unscored = unscored_windows([*keys, window_key(T0 - timedelta(days=3))], keys[1:2], T0)
    assert unscored == {keys[0], keys[2], keys[3]}
    condition = windows_condition(unscored, T0)
    assert (condition.state, condition.since) == (State.wrong, T0 - 60 * MINUTE)
    assert condition.text.startswith("1 sealed window has no scores, the oldest is 2024-03-14-11:00")
    assert windows_condition(keys[2:], T0).state is State.well


def test_health_is_read_from_the_database(database_url: str, tmp_path: Path) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert read_health(connection, tmp_path, T0).lease is None
        take_lease(connection, "run 1", T0, None)
        land_transactions(connection, [transaction(seen_at=T0 - SECOND)])
        health = read_health(connection, tmp_path / "missing", T0)
    assert health.lease is not None
    assert health.landing_lag is not None
    assert 0 < health.disk_free_share <= 1
    assert (health.dead_letters, health.dead_reason) == (0, None)
