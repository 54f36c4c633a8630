"""On a terminal bars show how far history, windows, model and live traffic are."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.builders import transaction
from tests.conftest import HISTORY_START
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.features.network import publish_network_baseline
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions
from txwatch.system.history import SimulatedHistory
from txwatch.system.watch import Bars, Milestones


@pytest.fixture
def terminal() -> Console:
    """A wide one."""
    return Console(file=io.StringIO(), force_terminal=True, width=160)


def said(terminal: Console) -> str:
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_each_stage_says_how_far_it_is(database_url: str, tmp_path: Path, terminal: Console) -> None:
    began = utc_now()
    first = window_start(began) - 2 * WINDOW
    history = SimulatedHistory(database_url, "2024-03", HISTORY_START, WINDOW, tmp_path / "landed")
    milestones = Milestones()
    with connect(database_url) as connection, Bars(history, milestones, began, on=terminal) as bars:
        bars.show(connection)
        bars.refresh()
        assert "waits for the feed" in said(terminal)
        assert "0 of 5,000 transactions to learn from" in said(terminal)

        bulk = [transaction(txid=f"{n:064x}", seen_at=first + n * WINDOW / 4, source="bulk") for n in range(3)]
        live = transaction(txid="f" * 64, seen_at=utc_now(), source="feed")
        with connection.transaction():
            land_transactions(connection, [*bulk, live])
        publish_network_baseline(connection, first, first + WINDOW)
        history.landed, milestones.first_model_s = 1_234, 51.0
        bars.show(connection)
        bars.refresh()
    for part in ("1,234 transactions", "1 of 2 have features", "since 51 s after the start", "1 transactions, landed"):
        assert part in said(terminal), part


def test_what_is_no_terminal_gets_no_bars(database_url: str) -> None:
    plain = Console(file=io.StringIO())
    with connect(database_url) as connection, Bars(None, Milestones(), utc_now(), on=plain) as bars:
        bars.show(connection)
    assert said(plain) == ""
