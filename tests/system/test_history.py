"""Simulated history lands as the live feed would bring it, and goes on where it was left."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import HISTORY_START
from txwatch.settings import Settings
from txwatch.simulator.traffic import Simulator
from txwatch.store.database import connect
from txwatch.store.reading import read_transactions
from txwatch.system.demo import LIVE_WITHIN, DemoHistory
from txwatch.system.history import land_history
from txwatch.windows import WINDOW, window_start


def simulator() -> Simulator:
    return Simulator("2024-03", seed=3, start=HISTORY_START)


def test_all_that_is_simulated_lands_once_with_its_fee_and_weight(database_url: str) -> None:
    end = HISTORY_START + WINDOW
    expected = {tx.txid: (tx.at, tx.fee_sat, tx.weight) for tx in simulator().until(end)}
    assert land_history(database_url, simulator(), end) == len(expected) > 1_000
    assert land_history(database_url, simulator(), end) == 0
    with connect(database_url) as connection:
        landed = read_transactions(connection, HISTORY_START, end)
    assert {tx.txid: (tx.seen_at, tx.fee_sat, tx.weight) for tx in landed} == expected
    assert {tx.source for tx in landed} == {"bulk"}


def test_a_second_call_goes_on_where_the_first_ended(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("TRUNCATE transactions")
    one, middle, end = simulator(), HISTORY_START + WINDOW / 2, HISTORY_START + WINDOW
    in_two = land_history(database_url, one, middle) + land_history(database_url, one, end)
    assert in_two == sum(1 for _ in simulator().until(end))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home of its own."""
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / "home"))
    return Settings()


def test_a_demo_lands_its_hours_up_to_now_and_a_second_one_goes_on_with_them(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = HISTORY_START + timedelta(days=1, minutes=3)
    monkeypatch.setattr("txwatch.system.demo.utc_now", lambda: now)
    monkeypatch.setattr("txwatch.system.demo.HISTORY", 4 * WINDOW)  # six hours take half a minute
    with connect(database_url) as connection:
        connection.execute("TRUNCATE transactions")
    history = DemoHistory(settings, database_url, "2024-03")
    assert history.start == window_start(now + LIVE_WITHIN) - 4 * WINDOW
    history.land()
    first = extent(database_url)
    assert first[0] > 4_000
    assert history.start <= first[1] < history.start + timedelta(seconds=10)
    assert first[2] < window_start(now + LIVE_WITHIN) <= first[2] + timedelta(seconds=10)

    # While the libraries were prepared a window's end has come: the history reaches up to it.
    now += WINDOW
    history.land()
    second = extent(database_url)
    assert second[0] > first[0]
    assert second[2] < window_start(now + LIVE_WITHIN) <= second[2] + timedelta(seconds=10)

    now += timedelta(hours=1)
    again = DemoHistory(settings, database_url, "2024-03")
    assert again.start == history.start, "partitions must not move"
    again.land()
    assert extent(database_url) == second
    assert "Going on with the data that is there." in capsys.readouterr().err


def extent(database_url: str) -> tuple[object, ...]:
    with connect(database_url) as connection:
        row = connection.execute("SELECT count(*), min(seen_at), max(seen_at) FROM transactions").fetchone()
    return row or ()
