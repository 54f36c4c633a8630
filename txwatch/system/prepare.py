"""Makes a database and a home ready for the system: our schema, and those of Dagster, Feast and MLflow."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from txwatch.errors import UserError
from txwatch.store.migrate import migrate, record_history_start

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
        self._logs = {name: logs / f"prepare-{name.lower()}.log" for name in PREPARATIONS}
        self._processes = {
            name: _start(arguments, environment, self._logs[name]) for name, arguments in PREPARATIONS.items()
        }

    def wait(self) -> None:
        """Return when all are done. Raises PreparationError, which names the log to read."""
        failed = [name for name, process in self._processes.items() if process.wait() != 0]
        if failed:
            raise PreparationError(f"{failed[0]} could not be prepared; see {self._logs[failed[0]]}")


def _start(arguments: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *arguments], env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )


def prepare_database(home: Path, database_url: str) -> None:
    """Bring our own schema to head, and keep the day on which this installation began."""
    migrate(database_url)
    record_history_start(home)
