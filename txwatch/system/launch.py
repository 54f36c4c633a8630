"""Prepare the databases, and start the whole system on this machine.

`python -m txwatch.system.launch` does it all in the environment that it finds, before other containers start.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from txwatch.detection.registry import upgrade_tables
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.cluster import embedded_postgres, embedded_postgres_shared
from txwatch.store.database import connect, sqlalchemy_url, with_schema
from txwatch.store.locks import Lock, wait_for
from txwatch.store.migrate import migrate, read_revision
from txwatch.store.retention import read_history_start, record_history_start
from txwatch.system.doctor import place_of
from txwatch.system.environment import (
    API_PORT,
    DAGSTER_PORT,
    DASHBOARD_PORT,
    MLFLOW_PORT,
    PORTS,
    require_free,
    system_environment,
)
from txwatch.system.processes import (
    beside,
    bot_process,
    dagster_processes,
    first_worker_process,
    pages_processes,
    supervise,
)
from txwatch.system.watch import Watch, console

PREPARATIONS = {
    "Dagster": ["-m", "blockchain_assets.platform.instance"],
    "Feast": ["-m", "feature_repo.apply"],
    "MLflow": ["-m", "txwatch.detection.registry"],
}
"""What makes each library's tables; each is safe to repeat. As processes, for each is seconds of imports."""


class PreparationError(UserError):
    """A library could not make its tables."""


class Preparation:
    """The libraries' preparations, running beside other work."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        # A server of MLflow's makes its own tables, and says itself where its files are.
        names = [name for name in PREPARATIONS if name != "MLflow" or not environment.get("MLFLOW_TRACKING_URI")]
        self._logs = {name: logs / f"prepare-{name.lower()}.log" for name in names}
        self._processes = {name: _start(PREPARATIONS[name], environment, self._logs[name]) for name in names}

    def wait(self) -> None:
        """Return when all are done. Raises PreparationError, which names the log to read."""
        failed = [name for name, process in self._processes.items() if process.wait() != 0]
        if failed:
            log = self._logs[failed[0]]
            last = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise PreparationError(f"{failed[0]} could not be prepared; see {log}: {last}")


def _start(arguments: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *arguments], env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )


def prepare_database(home: Path, database_url: str, history_start: datetime | None) -> None:
    """Bring our own schema to head, and keep the start of the history: the given one, else that of the first time."""
    migrate(database_url)
    with connect(database_url, application="txwatch migrate") as connection:
        if history_start is None and read_history_start(connection) is None:
            history_start = _start_in(home)
        record_history_start(connection, history_start)


def upgrade_mlflow(database_url: str) -> None:
    """Bring the tables that MLflow has in our database to its version, under the lock of migrations."""
    with connect(database_url, application="txwatch migrate") as connection, connection.transaction():
        wait_for(connection, Lock.MIGRATION)
        if read_revision(connection, "mlflow") is not None:
            upgrade_tables(with_schema(sqlalchemy_url(database_url), "mlflow"))


def _start_in(home: Path) -> datetime | None:
    """The start as older versions kept it: in a file."""
    file = home / "history_start"
    return datetime.fromisoformat(file.read_text().strip()) if file.exists() else None


if __name__ == "__main__":
    settings = Settings()
    url = settings.require_database_url()
    prepare_database(settings.home, url, settings.history_start)
    upgrade_mlflow(url)
    Preparation(system_environment(settings.home, url), settings.home / "logs").wait()


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database that DATABASE_URL names, or of the embedded server, which runs for the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres(settings.home) as url:
        yield url


@contextmanager
def database_beside(settings: Settings) -> Iterator[str]:
    """The same beside a system that may be running, whose embedded server is then used and left running."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres_shared(settings.home) as url:
        yield url


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

    The worker is first: it follows the feed within seconds, and Dagster takes over from it once it is there. Dagster's
    sensors begin once the file `sensors_after` is there, if one is named. Returns the exit status.
    """
    environment = system_environment(settings.home, database_url, **environment_settings)
    logs = Path(environment["TXWATCH_HOME"]) / "logs"
    start = environment_settings.get("TXWATCH_HISTORY_START")
    prepare_database(settings.home, database_url, datetime.fromisoformat(start) if start else settings.history_start)
    pages = pages_processes(mlflow=settings.mlflow_tracking_uri is None)
    mlflow = place_of(settings.mlflow_tracking_uri or f"http://127.0.0.1:{MLFLOW_PORT}")
    console.print(
        f"Dashboard: http://127.0.0.1:{DASHBOARD_PORT}   Dagster: http://127.0.0.1:{DAGSTER_PORT}"
        f"   API: http://127.0.0.1:{API_PORT}   MLflow: {mlflow}"
        f"   logs: {settings.home / 'logs'}",
        soft_wrap=True,
    )
    commands = {**dict(extra or {}), **dagster_processes(daemon_after=sensors_after), **pages}
    with beside(first_worker_process(), environment, logs / "worker.log"):
        return supervise(commands, environment, logs, watch)


def run_live(settings: Settings) -> int:
    """The system on the live feed, until a signal ends it."""
    require_free(PORTS)
    with database(settings) as url:
        console.print(f"Watching {settings.stream_url}. Ctrl-C ends.")
        extra = {"bot": bot_process()} if settings.telegram_chats else {}
        return launch(settings, url, extra=extra, watch=Watch(settings, url))
