"""Tests of sources run on the real event loop."""

import pytest

from tests.databases import copied_database
from tests.waiting import PATIENCE_SECONDS
from txwatch.ingest import worker as ingest_worker


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No source counts as away because the machine is slow."""
    monkeypatch.setattr(ingest_worker, "ANSWER_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def fresh(server_url: str) -> str:
    """A database for one test."""
    return copied_database(server_url, "template_txwatch")
