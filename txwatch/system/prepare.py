"""Makes a database and a home ready for the system: our schema, and those of Dagster, Feast and MLflow.

`python -m txwatch.system.prepare` does it all in the environment that it finds, before other containers start.
"""

import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from txwatch.detection.registry import upgrade_tables
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.history_start import read_history_start, record_history_start
from txwatch.store.locks import Lock, wait_for
from txwatch.store.migrate import migrate, read_revision
from txwatch.store.urls import sqlalchemy_url, with_schema
from txwatch.system.environment import system_environment

PREPARATIONS = {
    "Dagster": ["-m", "blockchain_assets.instance"],
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
