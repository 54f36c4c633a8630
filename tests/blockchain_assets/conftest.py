"""Assets are materialized on the simulated history."""

from datetime import datetime

import pytest

from tests.conftest import History


@pytest.fixture(scope="module")
def history_start(history: History) -> datetime:
    """The first partition is the first window of the history."""
    return history.start
