"""Assets are materialized on the simulated history."""

from datetime import datetime

import pytest

from tests.conftest import History, stand_at_the_end


@pytest.fixture(scope="module")
def history_start(history: History) -> datetime:
    """The first partition is the first window of the history."""
    return history.start


@pytest.fixture(autouse=True)
def end_of_the_history(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are trained and judged as if it had just ended."""
    stand_at_the_end(history, monkeypatch)
