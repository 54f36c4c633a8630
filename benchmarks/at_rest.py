"""What the whole demo costs while nothing happens but the default traffic: CPU, new connections, memory, by process.

`txwatch demo` runs in a home of its own until there is a champion and all that was due is scored. Then two minutes are
measured. With `--baseline-checkout PATH` the demo of another checkout, with its own environment, is measured first:
that is the baseline. The demo's ports must be free.

The time of a process that has ended is in that of the parent that waited for it, and counts for the parent's kind of
children: run processes for the code server, connections that ended for Postgres.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness import PROJECT, Bench, Measurement
from tests.waiting import wait_until
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.store.cluster import running_url
from txwatch.store.database import Connection, connect

SECONDS, QUICK_SECONDS = 120, 15
START_PATIENCE, SETTLE_PATIENCE = 600.0, 1_800.0
QUIET_SECONDS = 20.0
"""So long no run may wait or work, but for the ingestion, before the demo has settled."""
SCORED_WITHIN = WINDOW / 2
"""A window that has been over for so long is scored in a demo that has settled."""
STOP_PATIENCE = 90.0
CPU_OF_BASELINE, CONNECTIONS_PER_SECOND, PSS_MB = 0.3, 3.0, 1_600.0
APPLICATION = "txwatch at_rest"

ROLES = {
    "txwatch demo": "supervisor and the demo's watcher",
    "txwatch feed": "the demo's feed",
    "txwatch telegram": "the demo's Telegram",
    "txwatch api": "api",
    "txwatch dashboard": "dashboard",
    "streamlit": "dashboard",
    "txwatch bot": "bot",
    "txwatch ingest": "ingest worker",
    "dagster api grpc": "code server",
    "blockchain_assets.platform.code_server": "code server",
    "dagster api execute": "run processes",
    "dagster_webserver": "webserver",
    "blockchain_assets.platform.webserver": "webserver",
    "dagster._daemon": "daemon",
    "mlflow server": "mlflow",
    "mlflow_pages": "mlflow",
}
"""By what is in the command line. Other processes have the role of their parent."""
DEMO_ONLY = ("supervisor and the demo's watcher", "the demo's feed", "the demo's Telegram", "postgres: txwatch watch")
RUNS, WORKER, POSTGRES, ENDED = "run processes", "ingest worker", "postgres: server", "postgres: connections that ended"
FORK_SERVER, FORKED_FROM = "multiprocessing.forkserver", "what runs are forked from"
"""Its runs have its command line."""
ENDED_CHILDREN = {"code server": RUNS, "daemon": RUNS, FORKED_FROM: RUNS, POSTGRES: ENDED}
"""Where the time of ended children goes; by default to the parent's own role."""


@dataclass(frozen=True)
class Rest:
    """CPU seconds by role, new connections a second, and MB of proportional set size by role."""

    seconds: float
    cpu: Counter[str]
    connections: float
    pss: Counter[str]


def measure(bench: Bench) -> Iterator[Measurement]:
    """In all, without what only the demo has, and by role."""
    before = at_rest(bench, bench.baseline_checkout) if bench.baseline_checkout else None
    now = at_rest(bench, PROJECT)
    seconds = f"of {now.seconds:.0f} s"
    yield Measurement(
        "at_rest_cpu",
        now.cpu.total(),
        "CPU s",
        before and before.cpu.total(),
        at_most=before and CPU_OF_BASELINE * before.cpu.total(),
        why=f"{seconds}; everything together, the demo's feed, Telegram and watcher included",
    )
    yield Measurement(
        "at_rest_cpu_without_demo",
        _without_demo(now.cpu),
        "CPU s",
        before and _without_demo(before.cpu),
        why=f"{seconds}; without feed, Telegram and watcher",
    )
    yield Measurement(
        "at_rest_connections",
        now.connections,
        "a second",
        before and before.connections,
        at_most=CONNECTIONS_PER_SECOND,
        why="new connections to Postgres",
    )
    yield Measurement(
        "at_rest_pss",
        now.pss.total(),
        "MB",
        before and before.pss.total(),
        at_most=PSS_MB,
        why="proportional set size of all processes",
    )
    for what, unit, found, base in (
        ("cpu", "CPU s", now.cpu, before and before.cpu),
        ("pss", "MB", now.pss, before and before.pss),
    ):
        for role, value in found.most_common():
            yield Measurement(f"at_rest_{what}: {role}", value, unit, base and base[role])


def _without_demo(cpu: Counter[str]) -> float:
    return cpu.total() - sum(cpu[role] for role in DEMO_ONLY)


def at_rest(bench: Bench, checkout: Path) -> Rest:
    """Run the demo of a checkout, and measure it once it has settled; a quick one as soon as it lands."""
    home = bench.folder / f"at-rest-{checkout.resolve().parent.name}-{checkout.resolve().name}"
    with demo(checkout, home) as running:
        wait_until(lambda: _alive(running) and running_url(home), "the demo's Postgres runs", START_PATIENCE)
        url = running_url(home)
        assert url is not None
        wait_until(lambda: _alive(running) and _landing(url), "the demo lands live traffic", START_PATIENCE, 1.0)
        with connect(url, application=APPLICATION) as connection:
            if not bench.quick:
                settling = Settling(connection)
                wait_until(lambda: _alive(running) and settling(), "the demo has settled", SETTLE_PATIENCE, 1.0)
            return measured(home, running, connection, QUICK_SECONDS if bench.quick else SECONDS)


@contextmanager
def demo(checkout: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo of a checkout for the block. Nothing of it is left afterwards."""
    home.mkdir(parents=True)
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if checkout != PROJECT and own.exists() else sys.executable
    # What configures this process is not the demo's: it has a database and a chat of its own.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TXWATCH_", "TELEGRAM_", "DATABASE_", "DAGSTER_", "MLFLOW_", "PYTHONPATH"))
    }
    with (home / "demo.log").open("wb") as log:
        running = subprocess.Popen(
            [python, "-m", "txwatch", "demo"],
            cwd=checkout,
            env=environment | {"TXWATCH_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield running
        finally:
            left = members(home, running.pid)
            running.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                running.wait(STOP_PATIENCE)
            _, stubborn = psutil.wait_procs(left, timeout=5)
            for process in stubborn:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            running.wait()


def _alive(running: subprocess.Popen[bytes]) -> bool:
    assert running.poll() is None, f"the demo ended by itself, with status {running.returncode}; see its demo.log"
    return True


def _landing(url: str) -> bool:
    """Whether live traffic lands. What does not exist yet is waited for."""
    import psycopg

    try:
        with connect(url, application=APPLICATION) as connection:
            return bool(connection.execute("SELECT FROM transactions WHERE source = 'feed' LIMIT 1").fetchall())
    except psycopg.Error:
        return False


class Settling:
    """Whether there is a champion, all windows that were due are scored, and no run waited or worked for a while."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._busy_at = time.monotonic()

    def __call__(self) -> bool:
        """Live traffic lands before Dagster has made its tables."""
        there = self._connection.execute("SELECT to_regclass('dagster.runs')").fetchone()
        if there is None or there[0] is None:
            return False
        row = self._connection.execute(
            "SELECT (SELECT max(window_start) FROM scored_windows),"
            " (SELECT count(*) FROM dagster.runs WHERE pipeline_name <> 'ingest_shift'"
            " AND status IN ('NOT_STARTED', 'QUEUED', 'STARTING', 'STARTED', 'CANCELING'))"
        ).fetchone()
        assert row is not None
        scored, working = row
        if working or scored is None or scored < window_start(utc_now() - SCORED_WITHIN) - WINDOW:
            self._busy_at = time.monotonic()
        return time.monotonic() - self._busy_at > QUIET_SECONDS


@dataclass
class Usage:
    """One process from when it was first seen: CPU seconds of its own, and of children that it has waited for."""

    role: str
    parent: int
    own: float
    reaped: float
    was_there: bool
    """Already when the measurement began."""
    first_own: float = 0.0
    first_reaped: float = 0.0


def measured(home: Path, running: subprocess.Popen[bytes], connection: Connection, seconds: float) -> Rest:
    """What all processes of a demo use from now on, looked at every second, for whom the ended ones belonged to.

    Fails when the demo ends meanwhile.
    """
    found: dict[tuple[int, float], Usage] = {}
    sessions = _sessions(connection)
    began = time.monotonic()
    look(found, home, running.pid, connection, at_start=True)
    for second in range(1, int(seconds) + 1):
        with suppress(subprocess.TimeoutExpired):
            running.wait(max(0.0, began + second - time.monotonic()))
        assert _alive(running)
        look(found, home, running.pid, connection)
    took = time.monotonic() - began
    for (backend, created), usage in found.items():
        if usage.role == RUNS and usage.was_there and _exists(backend, created):
            usage.role = WORKER  # the one run that never ends
    return Rest(took, cpu(found), (_sessions(connection) - sessions) / took, pss(found))


def look(
    found: dict[tuple[int, float], Usage], home: Path, pid: int, connection: Connection, *, at_start: bool = False
) -> None:
    """Bring up to date what each process has used. What was there at the start is counted from there."""
    backends = {
        backend: f"postgres: {application or 'others'}"
        for backend, application in connection.execute(
            "SELECT pid, application_name FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
    }
    ours = connection.info.backend_pid
    for process in members(home, pid):
        if process.pid == ours:
            continue
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            times = process.cpu_times()
            own, reaped = times.user + times.system, times.children_user + times.children_system
            key = (process.pid, process.create_time())
            usage = found.get(key)
            if usage is None:
                first = (own, reaped) if at_start else (0.0, 0.0)
                purpose = role(process, backends)
                if purpose == POSTGRES and not at_start:
                    purpose = ENDED  # it will have, before it could be asked what it is for
                usage = found[key] = Usage(purpose, process.ppid(), own, reaped, at_start, *first)
            usage.own, usage.reaped = own, reaped


def cpu(found: dict[tuple[int, float], Usage]) -> Counter[str]:
    """CPU seconds by role. An ended process is in its parent's time: only what nobody saw of it is added from there."""
    seconds: Counter[str] = Counter()
    unseen: Counter[int] = Counter()
    parents = {pid: usage for (pid, _), usage in found.items()}
    for (pid, created), usage in found.items():
        seconds[usage.role] += usage.own - usage.first_own
        unseen[pid] += usage.reaped - usage.first_reaped
        if usage.parent in parents and not _exists(pid, created):
            unseen[usage.parent] -= usage.own + usage.reaped
    for pid, rest in unseen.items():
        parent = parents[pid].role
        seconds[ENDED_CHILDREN.get(parent, parent)] += max(0.0, rest)
    return seconds


def pss(found: dict[tuple[int, float], Usage]) -> Counter[str]:
    """MB by role, now: memory that several processes share is divided among them."""
    megabytes: Counter[str] = Counter()
    for (pid, created), usage in found.items():
        with suppress(OSError):
            if _exists(pid, created):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                megabytes[usage.role] += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1_000
    return megabytes


def members(home: Path, pid: int) -> list[psutil.Process]:
    """The processes of a demo: its command, its Postgres, those that have its home, and all below one of these."""
    roots = {pid}
    with suppress(OSError, IndexError, ValueError):
        roots.add(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))
    mine = f"TXWATCH_HOME={home}".encode()
    running = {}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.NoSuchProcess):
            running[process.pid] = (process, process.ppid())
            if mine in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                roots.add(process.pid)

    def belongs(pid: int) -> bool:
        return pid in roots or (pid in running and belongs(running[pid][1]))

    return [process for pid, (process, _) in running.items() if belongs(pid)]


def role(process: psutil.Process, backends: dict[int, str]) -> str:
    """What a process is for: by its command, else by that of its nearest parent that says so."""
    if process.pid in backends:
        return backends[process.pid]
    if process.name() == "postgres":
        return POSTGRES
    for one in [process, *process.parents()]:
        command = " ".join(one.cmdline())
        if FORK_SERVER in command and one == process and FORK_SERVER not in " ".join(process.parents()[0].cmdline()):
            return FORKED_FROM
        for part, name in ROLES.items():
            if part in command:
                # What the code server and the daemon start are runs.
                return RUNS if one != process and name in ENDED_CHILDREN else name
    return "other"


def _exists(pid: int, created: float) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time() == created
    return False


def _sessions(connection: Connection) -> int:
    row = connection.execute("SELECT sum(sessions) FROM pg_stat_database").fetchone()
    assert row is not None
    return int(row[0])
