"""The processes of the system, supervised by honcho: when one ends, all end."""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from honcho.manager import Manager
from honcho.printer import Printer

from txwatch.system.environment import API_PORT, CODE_PORT, DAGSTER_PORT, DASHBOARD_PORT, MLFLOW_PORT, project_file

STOP_GRACE_SECONDS = 60
"""For a worker's last batch on a slow machine; it mostly takes a second."""
LOG_BYTES = 32 << 20
"""A larger log is moved aside, over the one before: a process keeps twice this, and a minute's lines."""
LOOK_AT_LOGS_SECONDS = 60.0
SIGNALLED = {130, 143}
UI_NICENESS, PAGES_NICENESS = 5, 10
"""Of Dagster's UI and of the other pages: an alert must not wait for a page."""


def dagster_processes(code_port: int = CODE_PORT, daemon_after: Path | None = None) -> dict[str, list[str]]:
    """The commands of Dagster's processes by name: the code server, the web UI and the daemon, which runs the sensors.

    The code server makes Dagster's tables; the others wait for it, the daemon also for the file `daemon_after`.
    """
    workspace = str(project_file("workspace.yaml"))
    port = ["-h", "127.0.0.1", "-p"]
    ui = [*_module("blockchain_assets.platform.webserver"), *port, str(DAGSTER_PORT), "-w", workspace]
    after = [] if daemon_after is None else [f"--after-file={daemon_after}"]
    return {
        "code": [*_module("blockchain_assets.platform.code_server"), "--prepare", *port, str(code_port)],
        "daemon": _begin(f"--after-port={code_port}", *after, *_module("dagster._daemon"), "run", "-w", workspace),
        "ui": _begin(f"--after-port={code_port}", f"--nice={UI_NICENESS}", *ui),
    }


def pages_processes(*, mlflow: bool) -> dict[str, list[str]]:
    """The commands of the API and the dashboard; with `mlflow` also of MLflow's pages over our own tables."""
    commands = {
        "api": txwatch_command("api", f"--port={API_PORT}"),
        "dashboard": txwatch_command("dashboard", f"--port={DASHBOARD_PORT}"),
    }
    if mlflow:
        commands["mlflow"] = [*_module("txwatch.system.mlflow_pages"), f"--port={MLFLOW_PORT}"]
    return {name: _begin(f"--nice={PAGES_NICENESS}", *command) for name, command in commands.items()}


def feed_process(port: int, options: Mapping[str, object]) -> list[str]:
    """The command of the local feed; options that are None are left out."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return txwatch_command("feed", f"--port={port}", *given)


def txwatch_command(*arguments: str) -> list[str]:
    """`txwatch` with these arguments, by this Python."""
    return [*_module("txwatch"), *arguments]


def _begin(*arguments: str) -> list[str]:
    return [*_module("txwatch.system.begin"), *arguments]


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


@contextmanager
def beside(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a command for the block, in a session of its own; it may end earlier. Its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    # Otherwise it stays a zombie after its end.
    threading.Thread(target=process.wait, name=f"wait for {log.stem}", daemon=True).start()
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


LAST_LOOK_SECONDS = 10.0
"""For `watch` to end, once all processes have."""


class _Manager(Manager):  # type: ignore[misc] # honcho ships no types
    """Honcho's, which would fail and wait for ever on a signal before it has heard of every process that it started."""

    _asked = False

    def terminate(self) -> None:
        """End all processes, once all have begun."""
        if super()._all_started():
            super().terminate()
        else:
            self._asked = True

    def _all_started(self) -> bool:
        started = bool(super()._all_started())
        if started and self._asked:
            super().terminate()
        return started


def supervise(
    commands: Mapping[str, list[str]],
    environment: Mapping[str, str],
    logs: Path,
    watch: Callable[[threading.Event], None],
) -> int:
    """Run the commands and `watch` until one of them ends or a signal arrives. No process is left behind.

    The output of each goes to `logs/<name>.log`, bounded by `bound_logs`. Returns 0, or the number of the signal plus
    128, or the exit status of the first process that ended by itself. Raises what `watch` raises, if it ends in time.
    """
    logs.mkdir(parents=True, exist_ok=True)
    bound_logs(logs)
    own_log = (logs / "supervisor.log").open("a")
    manager = _Manager(printer=Printer(output=own_log, colour=False))
    for name, command in commands.items():
        # Not through honcho's pipe, which a run that outlives the process would hold open.
        log = shlex.quote(str(logs / f"{name}.log"))
        manager.add_process(name, f"exec {shlex.join(command)} >> {log} 2>&1", env=dict(environment))
    ended = threading.Event()
    watched = Future[None]()

    def watch_then_stop() -> None:
        # Until honcho has forked, this thread must hold no lock, which a fork would copy.
        if ended.wait(1):
            return
        try:
            watch(ended)
            if not ended.is_set():
                watched.set_result(None)
        except Exception as error:
            watched.set_exception(error)
        finally:
            manager.terminate()

    def look_at_logs() -> None:
        while not ended.wait(LOOK_AT_LOGS_SECONDS):
            bound_logs(logs)

    watcher = threading.Thread(target=watch_then_stop, name="watch", daemon=True)
    watcher.start()
    threading.Thread(target=look_at_logs, name="logs", daemon=True).start()
    try:
        manager.loop()
    finally:
        ended.set()
        # It may wait for a server elsewhere that is gone, whose client asks again for minutes.
        watcher.join(LAST_LOOK_SECONDS)
        _end_sessions({process["pid"] for process in manager._processes.values() if "pid" in process})
        own_log.close()
    if watched.done():
        watched.result()
        if manager.returncode not in SIGNALLED:
            return 0
    return int(manager.returncode or 0)


def bound_logs(folder: Path, most: int = LOG_BYTES) -> None:
    """Move the contents of logs above `most` bytes to `<name>.log.1`. What is written at this moment may be lost.

    A log that cannot be moved, as on a full disk, begins again all the same.
    """
    for log in folder.glob("*.log"):
        with suppress(OSError):
            if log.stat().st_size > most:
                with suppress(OSError):
                    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)


def _end_sessions(sessions: set[int]) -> None:
    """End what is left in the sessions that honcho made: runs outlive their code server."""
    left = [process for process in psutil.process_iter() if _session(process.pid) in sessions]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=STOP_GRACE_SECONDS)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
