"""Real processes of a test: started with their output in a file, and ended by pid."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.waiting import PATIENCE_SECONDS


class Processes:
    """A set of processes by name; leaving the block ends them in the opposite order of their start."""

    def __init__(self, logs: Path, grace_seconds: float = PATIENCE_SECONDS) -> None:
        self._logs = logs
        self._grace_seconds = grace_seconds
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start one."""
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=dict(environment), cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def log(self, name: str) -> Path:
        """Where its output goes."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of its output, for a failure's text."""
        return f"{name}:\n{self.log(name).read_text(errors='replace')[-3000:]}"

    def end(self) -> dict[str, int]:
        """End all with SIGTERM as Docker does, then with SIGKILL. Returns the exit status of each by name."""
        family = [child for process in self.running.values() for child in _family(process.pid)]
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        statuses = {}
        for name, process in self.running.items():
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._grace_seconds)
            statuses[name] = process.returncode if process.returncode is not None else -signal.SIGKILL
        for left in family:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        for process in self.running.values():
            process.wait(self._grace_seconds)
        self.running.clear()
        return statuses

    def kill(self, name: str) -> None:
        """End one and all below it with SIGKILL, as when a machine is lost."""
        family = _family(self.running[name].pid)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.running.pop(name).wait(self._grace_seconds)


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def quiet_environment() -> dict[str, str]:
    """This machine's variables without those of the product, so that a test depends on none."""
    prefixes = ("TXWATCH_", "TELEGRAM_", "MLFLOW_", "DAGSTER_", "FEAST_", "DATABASE_", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
