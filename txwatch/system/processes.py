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
"""What a worker may take for its last batch on a machine that is slow; mostly it is a second."""
LOG_BYTES = 32 << 20
"""A larger log begins again, and the one before is kept: a process has twice as much, and a minute's lines."""
LOOK_AT_LOGS_SECONDS = 60.0
SIGNALLED = {130, 143}


UI_NICENESS = 5
PAGES_NICENESS = 10
"""By how much the priority of what people look at is lowered: an alert must not wait for a page."""


def dagster_processes(code_port: int = CODE_PORT, daemon_after: Path | None = None) -> dict[str, list[str]]:
    """The commands of Dagster's processes by name: one code server, the web UI, and the daemon.

    The code server makes Dagster's tables first; the others wait for it. The daemon, which runs the sensors, waits
    until the file `daemon_after` is there as well, if one is named.
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
    """The commands of what people look at besides Dagster; `mlflow` with MLflow's pages over our own tables."""
    commands = {
        "api": [*_module("txwatch"), "api", f"--port={API_PORT}"],
        "dashboard": [*_module("txwatch"), "dashboard", f"--port={DASHBOARD_PORT}"],
    }
    if mlflow:
        commands["mlflow"] = [*_module("txwatch.system.mlflow_pages"), f"--port={MLFLOW_PORT}"]
    return {name: _begin(f"--nice={PAGES_NICENESS}", *command) for name, command in commands.items()}


def first_worker_process() -> list[str]:
    """The command of the worker that follows the feed until Dagster has a shift for it."""
    return [*_module("txwatch"), "ingest", "--until-relieved"]


def feed_process(port: int, options: Mapping[str, object]) -> list[str]:
    """The command of the local feed; options that are None are left out."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return [*_module("txwatch"), "feed", f"--port={port}", *given]


def telegram_process(port: int) -> list[str]:
    """The command of the local Telegram."""
    return [*_module("txwatch"), "telegram", f"--port={port}"]


def bot_process() -> list[str]:
    """The command of the bot that listens to commands and to the buttons below alerts."""
    return [*_module("txwatch"), "bot"]


def _begin(*arguments: str) -> list[str]:
    return [*_module("txwatch.system.begin"), *arguments]


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


@contextmanager
def beside(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a command for the block that may end before it, in a session of its own. Its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    # Or it would stay a zombie from its end on.
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


def supervise(
    commands: Mapping[str, list[str]],
    environment: Mapping[str, str],
    logs: Path,
    watch: Callable[[threading.Event], None],
) -> int:
    """Run the commands until one of them ends, a signal arrives, or `watch` returns, which runs beside them.

    The output of each goes to `logs/<name>.log`, within the bounds of `bound_logs`. Returns 0, or the number of the
    signal plus 128, or the exit status of the first process that ended by itself. No process is left behind. Raises
    what `watch` raises.
    """
    logs.mkdir(parents=True, exist_ok=True)
    bound_logs(logs)
    manager = Manager(printer=Printer(output=(logs / "supervisor.log").open("a"), colour=False))
    for name, command in commands.items():
        # The process writes its log itself: through honcho's pipe, a run that outlives it would hold the pipe open.
        log = shlex.quote(str(logs / f"{name}.log"))
        manager.add_process(name, f"exec {shlex.join(command)} >> {log} 2>&1", env=dict(environment))
    ended = threading.Event()
    watched = Future[None]()

    def watch_then_stop() -> None:
        # honcho forks first; until it has, this thread must hold no lock that a fork would copy.
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

    watcher = threading.Thread(target=watch_then_stop, name="watch")
    watcher.start()
    threading.Thread(target=look_at_logs, name="logs", daemon=True).start()
    try:
        manager.loop()
    finally:
        ended.set()
        watcher.join()
        _end_sessions({process["pid"] for process in manager._processes.values() if "pid" in process})
    if watched.done():
        watched.result()
        if manager.returncode not in SIGNALLED:
            return 0
    return int(manager.returncode or 0)


def bound_logs(folder: Path, most: int = LOG_BYTES) -> None:
    """Move what logs of more than `most` bytes hold to `<name>.log.1`, in place of what was there.

    Processes write on into the same file, to which they append; what one writes in this moment may be lost.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > most:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def _end_sessions(sessions: set[int]) -> None:
    """End what is left in the sessions that honcho made: the runs that a code server started outlive it."""
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
