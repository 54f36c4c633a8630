"""One installation with all its processes, as in production: its own PostgreSQL server, the feed behind a wire that can
fail, a local Telegram, Dagster's code server and daemon, and a second deliverer. What ends is started again.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Self

import psutil
import psycopg

from tests.databases import database_named
from tests.deploy.processes import Processes, quiet_environment
from tests.ports import free_port
from tests.soak.wire import Wire
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import utc_now, window_start
from txwatch.lab.simulator.telegram import LocalTelegram, ReceivedMessage
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.cluster import embedded_postgres
from txwatch.system.environment import PROJECT, system_environment
from txwatch.system.history import land_history
from txwatch.system.launch import Preparation, prepare_database
from txwatch.system.processes import STOP_GRACE_SECONDS, dagster_processes

HISTORY = timedelta(hours=2)
CHAT = "1"
LOOK_SECONDS = 1.0
END_SECONDS = 60.0


class Postgres:
    """A server that can be stopped, or crash, and be started again on the same data, at the same address."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Start it. After a crash it recovers first, for which the library does not always wait."""
        until = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.url = self._running.enter_context(embedded_postgres(self._home))
                return
            except Exception:
                if monotonic() > until:
                    raise

    def stop(self) -> None:
        """Stop it as an administrator would: whoever is connected is thrown out."""
        self._running.close()
        self._running = ExitStack()

    def crash(self) -> None:
        """End it at once, in the middle of whatever it does. It recovers from its log when it is started."""
        pid = int((self._home / "postgres" / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
        self.stop()


class Home:
    """The installation. Enter it to run it; `started_again` counts processes that were started again, by name."""

    def __init__(
        self,
        folder: Path,
        *,
        rate: float,
        seed: int,
        block_seconds: float,
        sources: Sequence[str],
    ) -> None:
        self.path = folder / "home"
        self.record = folder / "sent.jsonl"
        self.logs = folder / "logs"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.postgres = Postgres(folder / "pg")
        self.first_said: list[ReceivedMessage] = []
        """Each message as it was when Telegram took it, whatever became of it by edits."""
        self.telegram = LocalTelegram(on_message=self._note)
        self.telegram_server = TelegramServer(self.telegram)
        self.started_again: Counter[str] = Counter()
        self._feed_port = free_port()
        self.sources = sources
        self.wires = {source: Wire(self._feed_port) for source in sources}
        """Between the feed and each source, by its name."""
        self._feed_options = [f"--rate={rate}", f"--seed={seed}", f"--block-seconds={block_seconds}"]
        self.environment: dict[str, str] = {}
        """Of every process."""
        self._commands: dict[str, list[str]] = {}
        self._processes = Processes(self.logs)
        self._sessions: set[int] = set()
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._open = ExitStack()
        self._tender = threading.Thread(target=self._tend, name="tender", daemon=True)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.postgres.start()
            stack.callback(self.postgres.stop)
            with psycopg.connect(self.postgres.url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE product")
            stack.enter_context(self.telegram_server)
            for wire in self.wires.values():
                stack.enter_context(wire)
            stack.enter_context(self._processes)
            self._prepare()
            stack.callback(self.end)
            for name in self._commands:
                self.start(name)
            self._tender.start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def database_url(self) -> str:
        """The product's database."""
        return database_named(self.postgres.url, "product")

    def pid(self, name: str) -> int:
        """Of a process by name."""
        return self._processes.running[name].pid

    def pids(self) -> dict[str, int]:
        """Of all processes by name."""
        with self._guard:
            return {name: process.pid for name, process in self._processes.running.items()}

    def signal_feed(self, number: signal.Signals) -> None:
        """Calm the feed, or end its traffic."""
        os.kill(self.pid("feed"), number)

    def start(self, name: str) -> None:
        """Start one of the processes."""
        self._processes.start(name, self._commands[name], self.environment, PROJECT)
        self._sessions.add(self.pid(name))

    def kill(self, name: str) -> None:
        """SIGKILL to one and all below it, as when a container is lost. It is started again by itself."""
        with self._guard:
            self._processes.kill(name)
            self.start(name)
            self.started_again[f"{name}, killed"] += 1

    def own_processes(self) -> list[psutil.Process]:
        """All processes of the installation, whoever started them, without the database's."""
        return [process for process in psutil.process_iter() if self._is_own(process)]

    def end(self) -> list[str]:
        """End everything with SIGTERM, as production does. Returns the commands of what did not end by that.

        Those are ended with SIGABRT, so that their logs say where they were.
        """
        self._over.set()
        if self._tender.is_alive():
            self._tender.join()
        self._signal_all(signal.SIGTERM)
        stubborn = self._signal_all(signal.SIGABRT) if self._outlive(END_SECONDS) else []
        if stubborn and self._outlive(STOP_GRACE_SECONDS):
            self._signal_all(signal.SIGKILL)
        self._processes.end()
        return stubborn

    def _signal_all(self, number: signal.Signals) -> list[str]:
        commands = []
        for process in self.own_processes():
            with suppress(psutil.NoSuchProcess):
                commands.append(" ".join(process.cmdline()))
                process.send_signal(number)
        return commands

    def _outlive(self, seconds: float) -> bool:
        """Whether something is still there after so many seconds. Who has ended is reaped meanwhile."""
        deadline = monotonic() + seconds
        while left := self.own_processes():
            if monotonic() > deadline:
                return True
            for process in self._processes.running.values():
                process.poll()
            psutil.wait_procs(left, LOOK_SECONDS)
        return False

    def _is_own(self, process: psutil.Process) -> bool:
        # Not by its environment: forked from Dagster's fork server, a run shows none.
        try:
            return os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def _prepare(self) -> None:
        """The tables, and a history to learn from."""
        self.path.mkdir()
        code_port = free_port()
        end = window_start(utc_now())
        start = end - HISTORY
        ports = {source: wire.port for source, wire in self.wires.items()}
        self.environment = quiet_environment() | system_environment(
            self.path,
            self.database_url,
            TXWATCH_CODE_PORT=str(code_port),
            TXWATCH_SOURCES=",".join(self.sources),
            TXWATCH_STREAM_URL=f"ws://127.0.0.1:{ports['blockchain.info']}/inv",
            TXWATCH_REST_URL=f"http://127.0.0.1:{ports['blockchain.info']}",
            MEMPOOL_SPACE_URL=f"http://127.0.0.1:{ports.get('mempool.space', 0)}",
            TXWATCH_REST_INTERVAL_SECONDS="0.2",
            TXWATCH_HISTORY_START=start.isoformat(),
            TELEGRAM_API_URL=self.telegram_server.url,
            TELEGRAM_BOT_TOKEN="1:local",
            TELEGRAM_CHAT_ID=CHAT,
            TMPDIR=str(self.temporary),
            PYTHONFAULTHANDLER="1",
        )
        self._commands = {
            "feed": [
                *(sys.executable, "-m", "tests.soak.recorded_feed", f"--port={self._feed_port}"),
                *(f"--record={self.record}", *self._feed_options),
            ],
            **{name: command for name, command in dagster_processes(code_port).items() if name != "ui"},
            "deliverer": [sys.executable, "-m", "tests.soak.second_deliverer"],
        }
        prepare_database(self.path, self.database_url, start)
        preparation = Preparation(self.environment, self.logs)
        land_history(self.database_url, Simulator("2024-03", seed=11, start=start), end)
        preparation.wait()

    def _tend(self) -> None:
        """Start again what has ended by itself, as Docker does with `restart: unless-stopped`."""
        while not self._over.wait(LOOK_SECONDS):
            with self._guard:
                for name, process in list(self._processes.running.items()):
                    if process.poll() is not None:
                        self.started_again[f"{name}, ended by itself"] += 1
                        self.start(name)

    def _note(self, message: ReceivedMessage) -> None:
        if message.edited_at is None:
            self.first_said.append(message)
