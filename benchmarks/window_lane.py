"""From the sealing of a window to the alert of the window lane, through a real Dagster daemon and code server.

Nobody scores live here: a lease that the measurement holds itself moves the watermark over one window after the other,
and the sensors do the rest, one run for the scores and one for the alerts.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import LiteralString

import numpy as np

from benchmarks.harness import Bench, Measurement
from tests.builders import numbered_utx, pay, spend
from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.lease import HEARTBEAT, renew_lease, take_lease
from txwatch.store.transactions import land_transactions
from txwatch.system.environment import system_environment
from txwatch.system.history import land_history
from txwatch.system.launch import Preparation
from txwatch.system.processes import dagster_processes, supervise
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

WINDOWS = 10
"""A first model is judged on the last hour: the history must reach into it."""
HISTORY_WINDOWS = 12
WHALE_SAT = 60_000_000_000
FIRST_WHALE = 1 << 130
GOAL_SECONDS = 60


def measure(bench: Bench) -> Iterator[Measurement]:
    """p50 and p95 over windows that are sealed one after the other."""
    latencies = _latencies(bench, 3 if bench.quick else WINDOWS)
    p50, p95 = np.percentile(latencies, [50, 95])
    why = f"watermark past the window's end to its alert committed, {len(latencies)} windows of 7 tx/s"
    yield Measurement("sealing_to_alert_p50", float(p50), "s", why=why)
    yield Measurement("sealing_to_alert_p95", float(p95), "s", at_most=GOAL_SECONDS, why=why)


def _latencies(bench: Bench, windows: int) -> list[float]:
    database_url = bench.database()
    first = window_start(utc_now()) - windows * WINDOW
    simulator = Simulator("2024-03", seed=3, start=first - HISTORY_WINDOWS * WINDOW)
    code_port = free_port()
    environment = system_environment(
        bench.folder / "window-lane",
        database_url,
        TXWATCH_HISTORY_START=(first - HISTORY_WINDOWS * WINDOW).isoformat(),
        TXWATCH_CODE_PORT=str(code_port),
    )
    logs = bench.folder / "window-lane-logs"
    Preparation(environment, logs).wait()
    land_history(database_url, simulator, first)
    commands = dagster_processes(code_port)
    del commands["ui"]
    latencies: list[float] = []
    failed: list[BaseException] = []

    def watch(ended: threading.Event) -> None:
        try:
            with closing(Watermark(database_url, first)) as watermark, connect(database_url) as connection:
                wait_until(lambda: ended.is_set() or _scored_through(connection, first), "the history is scored", 300)
                latencies.extend(
                    _seconds_to_alert(connection, watermark, simulator, first, number) for number in range(windows)
                )
        except BaseException as error:
            failed.append(error)

    supervise(commands, environment, logs, watch)
    if failed:
        raise failed[0]
    return latencies


def _seconds_to_alert(
    connection: Connection, watermark: "Watermark", simulator: Simulator, first: datetime, number: int
) -> float:
    end = first + (number + 1) * WINDOW
    whale = FIRST_WHALE + number
    body = numbered_utx(whale, inputs=[spend(WHALE_SAT + 10_000)], out=[pay(WHALE_SAT)])
    traffic = [(simulated.message, simulated.at) for simulated in simulator.until(end)]
    with connection.transaction():
        land_transactions(connection, [_landed(*one) for one in [*traffic, (body, end - timedelta(seconds=1))]])
    began = time.monotonic()
    watermark.through = end
    key = f"{whale:064x}"
    alert: LiteralString = "SELECT 1 FROM alerts WHERE alert_key = %s"
    wait_until(lambda: _exists(connection, alert, key), "the alert is raised", 300)
    return time.monotonic() - began


def _landed(message: bytes, at: datetime) -> Transaction:
    decoded = decode(message)
    assert isinstance(decoded, UnconfirmedTransaction)
    return from_wire(decoded.x, at, "feed")


def _scored_through(connection: Connection, end: datetime) -> bool:
    """Whether the last window of the history has its scores: a champion is there, and nothing waits for it."""
    query = "SELECT 1 FROM transaction_scores WHERE seen_at >= %s LIMIT 1"
    return _exists(connection, query, end - WINDOW)


def _exists(connection: Connection, query: LiteralString, value: object) -> bool:
    return connection.execute(query, [value]).fetchone() is not None


class Watermark:
    """A worker's lease without a worker: everything before `through` is committed."""

    def __init__(self, database_url: str, through: datetime) -> None:
        self.through = through
        self._closed = threading.Event()
        self._connection = connect(database_url)
        self._epoch = take_lease(self._connection, "benchmark", utc_now(), None)
        self._beating = threading.Thread(target=self._beat)
        self._beating.start()

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT.total_seconds() / 5):
            renew_lease(self._connection, self._epoch, utc_now(), self.through)

    def close(self) -> None:
        """Stop the heartbeat."""
        self._closed.set()
        self._beating.join()
        self._connection.close()
