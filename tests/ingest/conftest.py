"""Tests of ingestion run on the real event loop."""

from itertools import count

import psycopg
import pytest

from tests.conftest import database_named

_numbers = count(1)


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio."""
    return "asyncio"


@pytest.fixture
def fresh(server_url: str) -> str:
    """A database for one test."""
    name = f"fresh_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_txwatch")
    return database_named(server_url, name)
