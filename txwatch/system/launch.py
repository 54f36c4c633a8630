"""Prepare the databases, which `python -m txwatch.system.launch` does, and start the whole system on this machine."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

from txwatch.detection.registry import upgrade_tables
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.cluster import embedded_postgres, embedded_postgres_shared
from txwatch.store.database import connect, sqlalchemy_url, with_schema
from txwatch.store.history_start import read_history_start, record_history_start
from txwatch.store.locks import Lock, wait_for
from txwatch.store.migrate import migrate, read_revision
from txwatch.store.roles import grant_roles, read_passwords
from txwatch.system.environment import PORTS, require_free, system_environment
from txwatch.system.findings import place_of
from txwatch.system.processes import beside, dagster_processes, pages_processes, supervise, txwatch_command
from txwatch.system.watch import Watch, console

PREPARATIONS = {
    "Dagster": ["-m", "blockchain_assets.platform.instance"],
    "Feast": ["-m", "feature_repo.apply"],
    "MLflow": ["-m", "txwatch.detection.registry"],
}
"""Python's arguments to make each library's tables; safe to repeat. Processes at once, for each imports for seconds."""


class PreparationError(UserError):
    """A library could not make its tables."""


class Preparation:
    """The libraries' preparations, running in the background."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        # An MLflow server makes its own tables, and knows where its files are.
        names = [name for name in PREPARATIONS if name != "MLflow" or not environment.get("MLFLOW_TRACKING_URI")]
        self._logs = {name: logs / f"prepare-{name.lower()}.log" for name in names}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, log in self._logs.items():
            with log.open("w") as output:
                self._processes[name] = subprocess.Popen(  # noqa: S603 - our own commands
                    [sys.executable, *PREPARATIONS[name]], env=dict(environment), stdout=output, stderr=output
                )

    def wait(self) -> None:
        """Return when all are done. Raises PreparationError, which names the log to read."""
        failed = [name for name, process in self._processes.items() if process.wait() != 0]
        if failed:
            log = self._logs[failed[0]]
            last = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise PreparationError(f"{failed[0]} could not be prepared; see {log}: {last}")


def prepare_database(home: Path, database_url: str, history_start: datetime | None) -> None:
    """Bring our own schema to head, and record the start of the history: the given one, else the first recorded."""
    migrate(database_url)
    older_record = home / "history_start"
    with connect(database_url, application="txwatch migrate") as connection:
        if history_start is None and read_history_start(connection) is None and older_record.exists():
            history_start = datetime.fromisoformat(older_record.read_text().strip())
        record_history_start(connection, history_start)


def upgrade_mlflow(database_url: str) -> None:
    """Bring MLflow's tables in our database to its version, under the lock of migrations."""
    with connect(database_url, application="txwatch migrate") as connection, connection.transaction():
        wait_for(connection, Lock.MIGRATION)
        if read_revision(connection, "mlflow") is not None:
            upgrade_tables(with_schema(sqlalchemy_url(database_url), "mlflow"))


@contextmanager
def database(
    settings: Settings, embedded: Callable[[Path], AbstractContextManager[str]] = embedded_postgres
) -> Iterator[str]:
    """The URL of the database that DATABASE_URL names, or of the embedded server, which runs for the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded(settings.home) as url:
        yield url


def database_beside(settings: Settings) -> AbstractContextManager[str]:
    """The same beside a system that may be running: its embedded server is used, and left running."""
    return database(settings, embedded_postgres_shared)


def launch(
    settings: Settings,
    database_url: str,
    *,
    extra: Mapping[str, list[str]] | None = None,
    sensors_after: Path | None = None,
    watch: Callable[[threading.Event], None],
    **environment_settings: str,
) -> int:
    """Run a worker, the `extra` processes, Dagster and the pages until `watch` returns or a signal arrives.

    The worker starts first and follows the feed within seconds, until Dagster takes over. Dagster's sensors begin once
    the file `sensors_after` is there, if one is named. Returns the exit status.
    """
    environment = system_environment(settings.home, database_url, **environment_settings)
    logs = Path(environment["TXWATCH_HOME"]) / "logs"
    start = environment_settings.get("TXWATCH_HISTORY_START")
    # In a copy of this process: all others are forked from this one, and Alembic stays out of them.
    with ProcessPoolExecutor(1, get_context("fork")) as apart:
        since = datetime.fromisoformat(start) if start else settings.history_start
        apart.submit(prepare_database, settings.home, database_url, since).result()
    mlflow = place_of(settings.mlflow_tracking_uri or f"http://127.0.0.1:{PORTS['MLflow']}")
    console.print(
        f"Dashboard: http://127.0.0.1:{PORTS['the dashboard']}   Dagster: http://127.0.0.1:{PORTS['Dagster']}"
        f"   API: http://127.0.0.1:{PORTS['the API']}   MLflow: {mlflow}   logs: {settings.home / 'logs'}",
        soft_wrap=True,
    )
    pages = pages_processes(mlflow=settings.mlflow_tracking_uri is None)
    commands = {**(extra or {}), **dagster_processes(daemon_after=sensors_after), **pages}
    with beside(txwatch_command("ingest", "--until-relieved"), environment, logs / "worker.log"):
        return supervise(commands, environment, logs, watch)


def run_live(settings: Settings) -> int:
    """Run the whole system on the live feed until a signal. Returns the exit status."""
    own_mlflow = settings.mlflow_tracking_uri is None
    require_free({name: port for name, port in PORTS.items() if own_mlflow or name != "MLflow"})
    with database(settings) as url:
        console.print(f"Watching {settings.stream_url}. Ctrl-C ends.")
        extra = {"bot": txwatch_command("bot")} if settings.telegram_chats else {}
        return launch(settings, url, extra=extra, watch=Watch(settings, url))


if __name__ == "__main__":
    own_settings = Settings()
    own_url = own_settings.require_database_url()
    prepare_database(own_settings.home, own_url, own_settings.history_start)
    upgrade_mlflow(own_url)
    Preparation(system_environment(own_settings.home, own_url), own_settings.home / "logs").wait()
    if own_settings.database_roles is not None:
        with connect(own_url, application="txwatch migrate") as own_connection:
            grant_roles(own_connection, read_passwords(own_settings.database_roles))
