"""An empty database and an archive of a test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive.filled import drop_all
from txwatch.archive.manifest import Archive
from txwatch.store.database import Connection, connect


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        drop_all(connection)
        yield connection


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", tmp_path / "work")
