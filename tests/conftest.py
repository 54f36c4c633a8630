"""What many tests share: one real PostgreSQL server for the session, a migrated database for each module, and where
Dagster takes part, a home with a real instance on that database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import dagster as dg
import psycopg
import pytest

from tests.populated import Populated, populate
from txwatch.settings import Settings
from txwatch.store.cluster import embedded_postgres
from txwatch.store.migrate import migrate
from txwatch.system.environment import system_environment

_numbers = count(1)

HISTORY_START = datetime(2024, 3, 14, tzinfo=UTC)
"""First partition of the tests' installations."""


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


@dataclass(frozen=True)
class Installation:
    """A home and a database of its own, with the environment that every process of the system would get."""

    home: Path
    database_url: str
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        """As a process with this environment reads them."""
        return Settings()


@pytest.fixture(scope="module")
def installation(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """This process as one of an installation, for one test module."""
    home = tmp_path_factory.mktemp("home")
    environment = system_environment(home, database_url, TXWATCH_HISTORY_START=HISTORY_START.isoformat())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Installation(home, database_url, environment)


@pytest.fixture(scope="module")
def dagster_instance(installation: Installation) -> Iterator[dg.DagsterInstance]:
    """The installation's Dagster instance: the project's dagster.yaml, on Postgres."""
    with dg.DagsterInstance.from_config(str(installation.home / "dagster")) as instance:
        yield instance


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real captures, which is not part of the project."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.exists():
        pytest.skip("the real captures are not beside the project")
    return folder


@pytest.fixture(scope="session")
def populated(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """A database after some hours of the system's work, in which a test changes nothing that others look at."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE populated TEMPLATE template_txwatch")
    return populate(database_named(server_url, "populated"), tmp_path_factory.mktemp("populated"))
