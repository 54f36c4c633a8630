"""What many tests share: one real PostgreSQL server for the session, and a migrated database for each module."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from txwatch.store.cluster import embedded_postgres
from txwatch.store.migrate import migrate

_numbers = count(1)


def database_named(server_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, with a database `template_txwatch` that holds the newest schema."""
    with embedded_postgres(tmp_path_factory.mktemp("pg")) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_txwatch")
        migrate(database_named(url, "template_txwatch"))
        yield url


@pytest.fixture(scope="module")
def database_url(server_url: str) -> str:
    """A fresh database for one test module, with the schema but no rows."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_txwatch")
    return database_named(server_url, name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real captures, which is not part of the project."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.exists():
        pytest.skip("the real captures are not beside the project")
    return folder
