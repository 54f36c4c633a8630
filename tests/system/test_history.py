"""Simulated history lands as the live feed would bring it, and goes on where it was left."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HISTORY_START
from tests.databases import empty_tables
from tests.waiting import wait_until
from txwatch.clock import WINDOW, window_start
from txwatch.lab.simulator.traffic import Simulator
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.transactions import read_transactions
from txwatch.system.demo import HISTORY, history_start
from txwatch.system.history import HistoryError, SimulatedHistory, land_history


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
        empty_tables(connection, "transactions")
    one, middle, end = simulator(), HISTORY_START + WINDOW / 2, HISTORY_START + WINDOW
    in_two = land_history(database_url, one, middle) + land_history(database_url, one, end)
    assert in_two == sum(1 for _ in simulator().until(end))


def history(database_url: str, folder: Path) -> SimulatedHistory:
    return SimulatedHistory(database_url, "2024-03", HISTORY_START, 2 * WINDOW, folder / "landed")


def test_a_demo_lands_what_was_before_the_window_of_the_first_live_transaction(
    database_url: str, tmp_path: Path
) -> None:
    with connect(database_url) as connection:
        empty_tables(connection, "transactions")
    landing = history(database_url, tmp_path)
    with landing.landing():
        assert not (tmp_path / "landed").exists(), "it waits for the feed"
        landing.land_until(HISTORY_START + 2.5 * WINDOW)
        wait_until((tmp_path / "landed").exists, "the history is landed")
    count, first, last = extent(database_url)
    assert count == landing.landed
    assert abs(landing.landed - landing.expected) < 0.2 * landing.expected
    assert HISTORY_START <= first < HISTORY_START + timedelta(seconds=10)
    assert HISTORY_START + 2 * WINDOW - timedelta(seconds=10) < last < HISTORY_START + 2 * WINDOW

    again = history(database_url, tmp_path)
    assert not (tmp_path / "landed").exists()
    with again.landing():
        again.land_until(HISTORY_START + timedelta(hours=5))
        wait_until((tmp_path / "landed").exists, "a second demo goes on with what is there")
    assert extent(database_url) == (count, first, last)


def test_the_end_of_a_demo_ends_the_landing(database_url: str, tmp_path: Path) -> None:
    with history(database_url, tmp_path).landing():
        pass
    assert not (tmp_path / "landed").exists()


def test_a_landing_that_fails_is_told_and_begins_no_sensors(tmp_path: Path) -> None:
    failing = history("postgresql://nobody@127.0.0.1:1/nothing", tmp_path)
    failing.raise_if_it_failed()

    def says_so() -> bool:
        try:
            failing.raise_if_it_failed()
        except HistoryError as error:
            return "could not be landed" in str(error)
        return False

    with failing.landing():
        failing.land_until(HISTORY_START + WINDOW)
        wait_until(says_so, "the landing has failed")
    assert not (tmp_path / "landed").exists()


def test_where_a_demo_begins_does_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / "home"))
    now = HISTORY_START + timedelta(days=1, minutes=3)
    monkeypatch.setattr("txwatch.system.demo.utc_now", lambda: now)
    start = history_start(Settings())
    assert start == window_start(now) - HISTORY
    now += timedelta(hours=1)
    assert history_start(Settings()) == start


def extent(database_url: str) -> tuple[Any, ...]:
    with connect(database_url) as connection:
        row = connection.execute("SELECT count(*), min(seen_at), max(seen_at) FROM transactions").fetchone()
    return row or ()
