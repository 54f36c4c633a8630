"""What many tests share: one real PostgreSQL server for the session, a migrated database for each module, and where
Dagster takes part, a home with a real instance on that database.

What is expensive is made once for the session, as databases that others are copied from: with the libraries' tables,
with a simulated history, with its features, and with a champion. `make test` runs on all cores by pytest-xdist: its
workers are one session, with one server, and what the first of them makes the others take.
"""

import fcntl
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import dagster as dg
import hypothesis
import pytest

from tests.databases import GIVEN_DATABASE, copied_database, database_name, database_server
from tests.databases import database_named as database_named
from tests.materializing import materialize
from tests.populated import Populated, populate
from tests.redis_server import redis_server
from tests.sources.node import NO_NODE
from txwatch.clock import WINDOW, utc_now, window_range, window_start
from txwatch.detection.training import MIN_ROWS
from txwatch.lab.simulator.traffic import Simulator
from txwatch.settings import Settings
from txwatch.system.environment import system_environment
from txwatch.system.history import land_history
from txwatch.system.launch import Preparation

# A slow machine is no fault of what is tested.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# Of tests that a shell has in the background it is ignored, and so in all that they start; Dagster ties SIGTERM to it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The worker of a controller with readline inherits the width that this library wrote into the environment.
for _size in "COLUMNS", "LINES":
    os.environ.pop(_size, None)

HISTORY_START = datetime(2024, 3, 14, tzinfo=UTC)
"""First partition of the tests' installations."""


MOST_WORKERS = 4
"""As many as the server has connections for."""

Made = TypeVar("Made")


class Once(Protocol):
    """Gives what is made under a name: by the first worker that asks, while the others that ask wait for it."""

    def __call__(self, name: str, make: Callable[[], Made]) -> Made: ...


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores that this process may use, for tests wait as well; on one, no worker beside it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, MOST_WORKERS) if cores > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist, before it starts, of the server and the folder that all workers share."""
    config = node.config
    if not hasattr(config, "shared_by_workers"):
        stack = ExitStack()
        config.add_cleanup(stack.close)
        folder = stack.enter_context(TemporaryDirectory(prefix="txwatch-tests-"))
        url = stack.enter_context(database_server(Path(folder) / "pg"))
        config.shared_by_workers = {"server_url": url, "shared_folder": folder}
    node.workerinput.update(config.shared_by_workers)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker runs whole modules; those that share the trained models of `tests.modelling` have one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "models" if uses_models(config.rootpath / module) else module

    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and first with the processes that look at the history by the clock of the wall."""
    with_history = {item.path for item in items if "history" in getattr(item, "fixturenames", ())}

    def later(item: pytest.Item) -> tuple[bool, bool, bool]:
        return item.path not in with_history, "daemon" not in item.path.name, not uses_models(item.path)

    items.sort(key=later)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were left out for want of a node: a run without one looks as green as any other."""
    left_out = sum(NO_NODE in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if left_out:
        terminalreporter.section(f"{left_out} tests on a real Bitcoin node were left out: {NO_NODE}", "!", red=True)


@cache
def uses_models(module: Path) -> bool:
    """Whether a module imports from `tests.modelling`, which makes each model once for a process."""
    return "from tests.modelling import" in module.read_text()


@pytest.fixture(scope="session")
def shared_by_workers(request: pytest.FixtureRequest) -> dict[str, str]:
    """What `pytest_configure_node` told this worker; empty where there are no workers."""
    return getattr(request.config, "workerinput", {})


@pytest.fixture(scope="session")
def server_url(shared_by_workers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, with a database `template_txwatch` that holds the newest schema."""
    if "server_url" in shared_by_workers:
        yield shared_by_workers["server_url"]
        return
    with database_server(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(scope="session")
def shared_folder(shared_by_workers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all workers of the session keep what they share."""
    given = shared_by_workers.get("shared_folder")
    return Path(given) if given else tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def once(shared_folder: Path) -> Once:
    """What the workers of the session make once for all of them."""

    def made(name: str, make: Callable[[], Made]) -> Made:
        file = shared_folder / f"{name}.pickle"
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_bytes(pickle.dumps(make()))
        return pickle.loads(file.read_bytes())  # noqa: S301 - our own

    return made


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
def history(once: Once) -> History:
    """Enough traffic to train on, within the hour that a challenger is judged on."""

    end = once("history", lambda: window_start(utc_now()))
    return History(end - 8 * WINDOW, end)


def stand_at_the_end(history: History, patch: pytest.MonkeyPatch) -> None:
    """Let the models be trained and judged as if the history had just ended, however long ago that is."""
    for module in "anomaly_model", "champion_model":
        patch.setattr(f"blockchain_assets.{module}.utc_now", lambda: history.end)


@pytest.fixture(scope="session")
def libraries_home(shared_folder: Path) -> Path:
    """The home that the databases below were made with; MLflow keeps its files there."""
    return shared_folder / "libraries"


@pytest.fixture(scope="session")
def prepared(server_url: str, libraries_home: Path, once: Once) -> str:
    """A database in which Dagster, Feast and MLflow have made their tables."""
    with warnings.catch_warnings():
        # They warn of themselves while they are imported, which is no test's business.
        warnings.simplefilter("ignore")
        for module in "dagster_mlflow", "mlflow.pyfunc", "mlflow.sklearn", "feast", "skops.io":
            import_module(module)

    def prepare() -> str:
        url = copied_database(server_url, "template_txwatch")
        # MLflow writes where it works last into this variable; here it makes the tables of another database.
        environment = system_environment(libraries_home, url, MLFLOW_TRACKING_URI="")
        Preparation(environment, libraries_home / "logs").wait()
        return database_name(url)

    return once("prepared", prepare)


@pytest.fixture(scope="session")
def landed(server_url: str, prepared: str, history: History, once: Once) -> str:
    """A database with the simulated history."""

    def land() -> str:
        url = copied_database(server_url, prepared)
        assert land_history(url, history.simulator(), history.end) > MIN_ROWS
        return database_name(url)

    return once("landed", land)


@pytest.fixture(scope="session")
def featured(server_url: str, landed: str, history: History, libraries_home: Path, once: Once) -> str:
    """A database in which the windows of the history have features."""

    def compute() -> str:
        url = copied_database(server_url, landed)
        with installed(libraries_home, url, history.start), dagster_at(libraries_home) as instance:
            assets = "network_baseline", "address_activity", "transaction_features"
            assert materialize(instance, *assets, windows=history.windows).success
        return database_name(url)

    return once("featured", compute)


@pytest.fixture(scope="session")
def championed(server_url: str, featured: str, history: History, libraries_home: Path, once: Once) -> str:
    """A database with a champion that was trained on the history."""

    def promote() -> str:
        url = copied_database(server_url, featured)
        with (
            installed(libraries_home, url, history.start),
            dagster_at(libraries_home) as instance,
            pytest.MonkeyPatch.context() as patch,
        ):
            stand_at_the_end(history, patch)
            patch.setattr("txwatch.detection.gate.MIN_SEED_AGREEMENT", 0.0)  # so few are less stable
            assert materialize(instance, "anomaly_model").success
            assert materialize(instance, "champion_model").success
        return database_name(url)

    return once("championed", promote)


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
def populated(server_url: str, shared_folder: Path, once: Once) -> Populated:
    """A database after some hours of the system's work, in which a test changes nothing that others look at."""

    def work() -> Populated:
        return populate(copied_database(server_url, "template_txwatch"), shared_folder / "populated")

    worked = once("populated", work)
    # A copy, for what a test changes and restores, another worker must not see meanwhile.
    return replace(worked, database_url=copied_database(server_url, database_name(worked.database_url)))


@pytest.fixture
def own_populated(server_url: str, populated: Populated) -> Populated:
    """The same with a database of the test's own, which it may change as it likes."""
    return replace(populated, database_url=copied_database(server_url, database_name(populated.database_url)))
