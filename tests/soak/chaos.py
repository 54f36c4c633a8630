"""Carries out a schedule of faults on a running installation."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import psutil
import psycopg
import structlog

from tests.soak.faults import Fault
from tests.soak.home import Home
from tests.soak.wire import Wire
from txwatch.clock import utc_now
from txwatch.lab.simulator.telegram import Fault as Answer
from txwatch.store.database import connect
from txwatch.store.lease import read_lease

log = structlog.get_logger(__name__)

HALF_OPEN_SECONDS = 40.0
"""Longer than the silence after which a worker takes its connection for dead."""
RUN_PATIENCE_SECONDS = 60.0
ANSWERS = {
    "telegram_500": (Answer.server_error, 3),
    "telegram_429": (Answer.too_many, 3),
    "telegram_bad_gateway": (Answer.bad_gateway, 2),
    "telegram_accepts_then_is_silent": (Answer.accept_then_silence, 1),
    "telegram_accepts_then_hangs_up": (Answer.accept_then_hang_up, 1),
    "telegram_accepts_then_garbles": (Answer.accept_then_garbage, 1),
}


class Chaos:
    """What has been done by now: `done` counts faults by name, `moments` says when each began (UTC)."""

    def __init__(self, home: Home, seed: int) -> None:
        self._home = home
        self._random = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self.done: Counter[str] = Counter()
        self.moments: list[tuple[str, str]] = []

    def carry_out(self, faults: list[Fault], over: threading.Event, seconds: float) -> None:
        """Each at its time, one after the other: one that is due while another lasts comes right after it."""
        began = monotonic()
        for fault in faults:
            if over.wait(max(0.0, began + fault.at - monotonic())):
                return
            self.moments.append((utc_now().isoformat(), fault.name))
            log.info("fault", name=fault.name, seconds=fault.seconds)
            found = self._carry_out(fault, over)
            self.done[fault.name if found else f"{fault.name}, and there was none"] += 1
        over.wait(max(0.0, began + seconds - monotonic()))

    def _carry_out(self, fault: Fault, over: threading.Event) -> bool:
        """Do it. Returns whether there was something to do it to."""
        wires, postgres, telegram = self._wires(), self._home.postgres, self._home.telegram_server
        match fault.name:
            case "feed_reset":
                each(wires, Wire.cut)
            case "feed_closed":
                each(wires, Wire.close)
            case "feed_half_open":
                each(wires, Wire.hold)
                over.wait(HALF_OPEN_SECONDS)
                each(wires, Wire.release)
            case "feed_refused":
                each(wires, Wire.refuse)
                over.wait(fault.seconds)
                each(wires, Wire.accept)
            case "database_restarted":
                postgres.stop()
                over.wait(fault.seconds)
                postgres.start()
            case "database_crashed":
                postgres.crash()
                postgres.start()
            case "telegram_away":
                telegram.refuse()
                over.wait(2 * fault.seconds)
                telegram.accept()
            case "worker_killed":
                return self._kill_worker()
            case "run_killed":
                return self._kill_run(over)
            case "deliverer_killed":
                self._home.kill("deliverer")
            case "code_server_killed":
                self._home.kill("code")
            case "daemon_killed":
                self._home.kill("daemon")
            case name:
                answer, times = ANSWERS[name]
                self._home.telegram.faults.extend([answer] * times)
        return True

    def _wires(self) -> list[Wire]:
        """Those that fail together: of one source, or of all."""
        wires = list(self._home.wires.values())
        return self._random.choice([wires, *([wire] for wire in wires)])

    def worker_pid(self) -> int | None:
        """The process that follows the feed, None while nobody does."""
        try:
            with connect(self._home.database_url) as connection:
                lease = read_lease(connection)
        except psycopg.OperationalError:
            return None
        return None if lease is None or lease.released_at is not None else int(lease.holder.rsplit(" ", 1)[-1])

    def _kill_worker(self) -> bool:
        pid = self.worker_pid()
        if pid in {process.pid for process in self._home.own_processes()} and pid is not None:
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def _kill_run(self, over: threading.Event) -> bool:
        """SIGKILL to a run that is no shift of the feed, as soon as there is one."""
        deadline = monotonic() + RUN_PATIENCE_SECONDS
        while monotonic() < deadline and not over.wait(0.5):
            worker = self.worker_pid()
            runs = [process for process in self._children_of_code() if process.pid != worker]
            if worker is not None and runs:
                with suppress(psutil.NoSuchProcess):
                    self._random.choice(runs).kill()
                return True
        return False

    def _children_of_code(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self._home.pid("code")).children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if "resource_tracker" not in " ".join(_command(child))]


def each(wires: list[Wire], work: Callable[[Wire], None]) -> None:
    for wire in wires:
        work(wire)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
