"""Tests of sources run on the real event loop."""

import pytest

from tests.databases import copied_database


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio."""
    return "asyncio"


@pytest.fixture
def fresh(server_url: str) -> str:
    """A database for one test."""
    return copied_database(server_url, "template_txwatch")
