"""What many tests share: one real PostgreSQL server for the session, a migrated database for each module, and where
Dagster takes part, a home with a real instance on that database.

What is expensive is made once for the session, as databases that others are copied from: with the libraries' tables,
with a simulated history, with its features, and with a champion.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import dagster as dg
import hypothesis
import psycopg
import pytest

from tests.databases import GIVEN_DATABASE, copied_database, database_name, database_named, database_server
from tests.materializing import materialize
from tests.populated import Populated, populate
from tests.redis_server import redis_server
from txwatch.clock import utc_now
from txwatch.detection.training import MIN_ROWS
from txwatch.settings import Settings
from txwatch.simulator.traffic import Simulator
from txwatch.system.environment import system_environment
from txwatch.system.history import land_history
from txwatch.system.prepare import Preparation
from txwatch.windows import WINDOW, window_range, window_start

# A slow machine is no fault of what is tested.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

HISTORY_START = datetime(2024, 3, 14, tzinfo=UTC)
"""First partition of the tests' installations."""


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, with a database `template_txwatch` that holds the newest schema."""
    with database_server(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(scope="module")
def template() -> str:
    """What the module's database is a copy of. Modules that need more than the schema name one of those below."""
    return "template_txwatch"


@pytest.fixture(scope="module")
def database_url(request: pytest.FixtureRequest, template: str) -> str:
    """A fresh database for one test module; by default with the schema but no rows."""
    return os.environ.get(GIVEN_DATABASE) or copied_database(request.getfixturevalue("server_url"), template)


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


def dagster_at(home: Path) -> dg.DagsterInstance:
    """The Dagster instance of an installation, to be closed."""
    return dg.DagsterInstance.from_config(str(home / "dagster"))


@contextmanager
def installed(home: Path, database_url: str, history_start: datetime) -> Iterator[Installation]:
    """This process as one of an installation, for the length of the block."""
    environment = system_environment(
        home,
        database_url,
        TXWATCH_HISTORY_START=history_start.isoformat(),
        TXWATCH_REST_URL="http://127.0.0.1:9",  # nobody answers there; a test that wants blocks serves some
        TXWATCH_REST_INTERVAL_SECONDS="0",
    )
    with pytest.MonkeyPatch.context() as patch:
        # MLflow writes where it works into this variable, which must not reach the next installation.
        for name, value in (environment | {"MLFLOW_TRACKING_URI": ""}).items():
            patch.setenv(name, value)
        yield Installation(home, database_url, environment)


@pytest.fixture(scope="module")
def history_start() -> datetime:
    """The first partition. Modules that use the simulated history say theirs."""
    return HISTORY_START


@pytest.fixture(scope="module")
def installation(
    database_url: str, history_start: datetime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """This process as one of an installation, for one test module."""
    with installed(tmp_path_factory.mktemp("home"), database_url, history_start) as installation:
        yield installation


@pytest.fixture(scope="module")
def dagster_instance(installation: Installation) -> Iterator[dg.DagsterInstance]:
    """The installation's Dagster instance: the project's dagster.yaml, on Postgres."""
    with dagster_at(installation.home) as instance:
        yield instance


@dataclass(frozen=True)
class History:
    """Simulated traffic that ends with the last whole window before the session began. Times UTC."""

    start: datetime
    end: datetime

    @property
    def windows(self) -> list[datetime]:
        """The starts of its windows."""
        return window_range(self.start, self.end)

    def simulator(self) -> Simulator:
        """Gives the same traffic each time."""
        return Simulator("2024-03", seed=7, start=self.start)


@pytest.fixture(scope="session")
def history() -> History:
    """Enough traffic to train on, within the hour that a challenger is judged on."""
    end = window_start(utc_now())
    return History(end - 8 * WINDOW, end)


@pytest.fixture(scope="session")
def libraries_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that the databases below were made with; MLflow keeps its files there."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="session")
def prepared(server_url: str, libraries_home: Path) -> str:
    """A database in which Dagster, Feast and MLflow have made their tables."""
    with warnings.catch_warnings():
        # They warn of themselves while they are imported, which is no test's business.
        warnings.simplefilter("ignore")
        for module in "dagster_mlflow", "mlflow.pyfunc", "mlflow.sklearn", "feast", "skops.io":
            import_module(module)
    url = copied_database(server_url, "template_txwatch")
    # MLflow writes where it worked last into this variable; here it makes the tables of another database.
    environment = system_environment(libraries_home, url, MLFLOW_TRACKING_URI="")
    preparation = Preparation(environment, libraries_home / "logs")
    preparation.wait()
    return database_name(url)


@pytest.fixture(scope="session")
def landed(server_url: str, prepared: str, history: History) -> str:
    """A database with the simulated history."""
    url = copied_database(server_url, prepared)
    assert land_history(url, history.simulator(), history.end) > MIN_ROWS
    return database_name(url)


@pytest.fixture(scope="session")
def featured(server_url: str, landed: str, history: History, libraries_home: Path) -> str:
    """A database in which the windows of the history have features."""
    url = copied_database(server_url, landed)
    with installed(libraries_home, url, history.start), dagster_at(libraries_home) as instance:
        assets = "network_baseline", "address_activity", "transaction_features"
        assert materialize(instance, *assets, windows=history.windows).success
    return database_name(url)


@pytest.fixture(scope="session")
def championed(server_url: str, featured: str, history: History, libraries_home: Path) -> str:
    """A database with a champion that was trained on the history."""
    url = copied_database(server_url, featured)
    with installed(libraries_home, url, history.start), dagster_at(libraries_home) as instance:
        assert materialize(instance, "anomaly_model").success
        assert materialize(instance, "champion_model").success
    return database_name(url)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real captures, which is not part of the project."""
    folder = Path(os.environ.get("TXWATCH_SHARED") or Path(__file__).parents[2] / "shared") / "data"
    if not folder.exists():
        pytest.skip("the real captures are not beside the project")
    return folder


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the module's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def populated(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """A database after some hours of the system's work, in which a test changes nothing that others look at."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE populated TEMPLATE template_txwatch")
    return populate(database_named(server_url, "populated"), tmp_path_factory.mktemp("populated"))
