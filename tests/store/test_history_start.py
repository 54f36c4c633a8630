"""The start of the history follows the retention, passes nothing that is there, and comes back from a wrong clock."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import transaction
from tests.databases import empty_tables
from txwatch.clock import WINDOW
from txwatch.errors import UserError
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.history_start import (
    LISTED_DAYS,
    MOST_DAYS,
    STEP_DAYS,
    HistoryStart,
    Kept,
    NoHistoryStartError,
    move_history_start,
    next_start,
    read_history_start,
    record_history_start,
)
from txwatch.store.lease import note_late_windows
from txwatch.store.transactions import land_transactions

TODAY = datetime(2024, 7, 1, tzinfo=UTC)
NOW = TODAY + timedelta(hours=4, minutes=17)
DAY = timedelta(days=1)
LONG_AGO = datetime(2023, 1, 1, 7, 5, tzinfo=UTC)
MOST_PARTITIONS = 30_000


def begins(
    retention_days: int = 90,
    *,
    present: datetime = TODAY - 91 * DAY,
    earliest: datetime = LONG_AGO,
    row: datetime | None = TODAY - 89 * DAY,
    unsettled: datetime | None = None,
    asked_for: datetime | None = None,
    now: datetime = NOW,
) -> datetime:
    return next_start(now, retention_days, present, earliest, Kept(row, unsettled, asked_for))


def test_within_the_retention_every_day_stays() -> None:
    assert begins() == TODAY - 90 * DAY
    assert begins(row=None) == begins(row=TODAY - timedelta(hours=1)) == TODAY - 90 * DAY
    assert begins(7, row=TODAY - 6 * DAY) == TODAY - 7 * DAY


def test_a_history_that_is_younger_begins_where_it_began() -> None:
    earliest = TODAY - 3 * DAY + timedelta(hours=7, minutes=5)
    assert begins(earliest=earliest, present=earliest) == earliest


def test_days_that_the_database_could_not_give_up_stay() -> None:
    assert begins(7, row=TODAY - 20 * DAY + timedelta(hours=5)) == TODAY - 20 * DAY


def test_a_window_that_a_run_or_a_backfill_is_about_stays() -> None:
    asked_for = TODAY - 93 * DAY + timedelta(hours=5)
    assert begins(asked_for=asked_for) == TODAY - 93 * DAY
    assert begins(36_500, row=LONG_AGO, asked_for=TODAY - 99 * DAY) == TODAY - 99 * DAY


def test_what_is_unsettled_stays_as_far_as_the_retention_reaches() -> None:
    assert begins(365, row=LONG_AGO, unsettled=TODAY - 100 * DAY) == TODAY - 100 * DAY
    assert begins(7, row=TODAY, unsettled=LONG_AGO) == TODAY - 7 * DAY, "nothing is left of the gap's first days"


@pytest.mark.parametrize("retention_days", [1, 7, 90, 104, 365, 36_500])
def test_no_retention_makes_too_many_partitions(retention_days: int) -> None:
    """Night after night for two years, of which nothing is ever given up and a run of the first day never ends."""
    began = datetime(2024, 1, 1, tzinfo=UTC)
    start, most = began, 0
    for night in range(730):
        now = began + night * DAY + timedelta(hours=4, minutes=17)
        most = max(most, (now - start) // WINDOW)
        start = begins(retention_days, present=start, earliest=began, row=began, asked_for=began, now=now)
        assert start <= now - min(retention_days, LISTED_DAYS) * DAY or start == began
    assert most < MOST_PARTITIONS
    assert start == now.replace(hour=0, minute=0) - MOST_DAYS * DAY


def test_a_day_too_many_is_left_out_for_a_retention_that_is_longer() -> None:
    assert begins(365, row=LONG_AGO, present=TODAY - 96 * DAY) == TODAY - LISTED_DAYS * DAY


def test_a_history_that_is_years_old_gets_there_at_once_if_transactions_confirm_the_clock() -> None:
    kept = Kept(oldest_row=LONG_AGO, confirmed=NOW)
    assert next_start(NOW, 36_500, LONG_AGO, LONG_AGO, kept) == TODAY - LISTED_DAYS * DAY
    kept = Kept(oldest_row=LONG_AGO)
    assert next_start(NOW, 36_500, LONG_AGO, LONG_AGO, kept) == datetime(2023, 1, 8, tzinfo=UTC)


def test_a_clock_that_is_a_year_ahead_for_a_night_moves_it_by_a_week_and_back() -> None:
    before, year = begins(), 365 * DAY
    for row in TODAY - 90 * DAY, None:
        ahead = begins(present=before, row=row, now=NOW + year)
        assert ahead == before + STEP_DAYS * DAY
        assert begins(present=ahead, row=TODAY - 90 * DAY, now=NOW + DAY) == before


@pytest.fixture
def connection(database_url: str) -> Connection:  # type: ignore[misc]
    with connect(database_url) as connection:
        empty_tables(connection, "history_start, transactions, feed_gaps, late_windows")
        yield connection


def land(connection: Connection, number: int, seen_at: datetime) -> None:
    with connection.transaction():
        land_transactions(connection, [transaction(txid=f"{number:064x}", seen_at=seen_at, source="bulk")])


def test_it_moves_in_the_database_as_far_as_rows_gaps_and_late_windows_let_it(connection: Connection) -> None:
    with pytest.raises(NoHistoryStartError, match="txwatch migrate"):
        move_history_start(connection, NOW, 90)
    record_history_start(connection, LONG_AGO)
    land(connection, 1, TODAY - 94 * DAY)
    land(connection, 2, LONG_AGO - DAY)
    land(connection, 3, TODAY)
    present = TODAY - 99 * DAY
    connection.execute("UPDATE history_start SET first_window = %s", [present])
    assert move_history_start(connection, NOW, 90) == (present, TODAY - 94 * DAY)
    connection.execute("DELETE FROM transactions WHERE txid = %s", [f"{1:064x}"])
    assert move_history_start(connection, NOW, 90) == (TODAY - 94 * DAY, TODAY - 90 * DAY)
    assert read_history_start(connection) == HistoryStart(TODAY - 90 * DAY, LONG_AGO)

    record_gaps(connection, [FeedGap(TODAY - 99 * DAY, TODAY - 98 * DAY, "test")])
    assert move_history_start(connection, NOW, 365)[1] == TODAY - 99 * DAY
    note_late_windows(connection, [TODAY - 100 * DAY], "landed late")
    assert move_history_start(connection, NOW, 365)[1] == TODAY - 100 * DAY


def test_what_was_set_is_the_earliest_start_and_no_reason_to_go_back(connection: Connection) -> None:
    wanted = TODAY - 20 * DAY + timedelta(minutes=7)
    record_history_start(connection, TODAY - 40 * DAY)
    assert move_history_start(connection, NOW, 90, wanted)[1] == TODAY - 20 * DAY + WINDOW
    assert move_history_start(connection, NOW + 100 * DAY, 90, wanted)[1] == TODAY - 20 * DAY + STEP_DAYS * DAY
    moved = read_history_start(connection)
    for again in wanted, None, TODAY - 40 * DAY:
        record_history_start(connection, again)
        assert read_history_start(connection) == moved, "a program that starts again takes nothing back"
    record_history_start(connection, TODAY - 50 * DAY)
    assert read_history_start(connection) == HistoryStart(TODAY - 50 * DAY, TODAY - 50 * DAY)


def test_a_start_in_the_future_is_refused(connection: Connection) -> None:
    with pytest.raises(UserError, match="TXWATCH_HISTORY_START lies in the future: 2999-01-01"):
        record_history_start(connection, datetime(2999, 1, 1, tzinfo=UTC))
    assert read_history_start(connection) is None


def test_two_machines_that_move_it_at_once_agree(database_url: str, connection: Connection) -> None:
    record_history_start(connection, LONG_AGO)
    connection.execute("UPDATE history_start SET first_window = %s", [TODAY - 91 * DAY])
    with connect(database_url) as other:
        assert move_history_start(connection, NOW, 90)[1] == TODAY - 90 * DAY
        assert move_history_start(other, NOW, 90) == (TODAY - 90 * DAY, TODAY - 90 * DAY)
        assert read_history_start(other) == read_history_start(connection)
