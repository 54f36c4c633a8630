"""What addresses did, counted by one, two and four connections; features by as many workers; and what only one can do.

Beside the rates stands what a transaction takes of a core, in PostgreSQL and in the worker: it tells the same whoever
else uses the machine, and how many cores a rate needs.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import psutil

from benchmarks.features import DERIVED, START, land_simulated
from benchmarks.harness import Bench, Measurement
from txwatch.clock import WINDOW
from txwatch.features.addresses import Part, split, write_address_activity
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.transactions import land_transactions

NUMBERS = (1, 2, 4)
"""Of connections, and of workers."""
HOURS = 8
DENSE = START + timedelta(days=2)
"""A window with as much traffic as a chain with DENSE_RATE would have."""
DENSE_RATE = 500.0
"""Transactions a second."""
CHUNK = 5_000


@dataclass(frozen=True)
class Cost:
    """What some work took: seconds by the clock, and CPU seconds of PostgreSQL's processes and of the workers'."""

    seconds: float
    server: float
    worker: float


def measure(bench: Bench) -> Iterator[Measurement]:
    """A backfill, whose hours are shared, and a window alone, whose addresses are; then what follows in order."""
    database_url = bench.database()
    hours = 1 if bench.quick else HOURS
    land_simulated(database_url, hours)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(database_url)) for _ in range(max(NUMBERS))]
        _land_dense(connections[0], DENSE_RATE / 20 if bench.quick else DENSE_RATE)
        end = START + timedelta(hours=hours)
        yield from _activity(connections, "by_time", START, end, f"{hours} h of simulated traffic")
        yield from _activity(connections, "by_address", DENSE, DENSE + WINDOW, "one window")
        _write(connections, START, end)
        yield from _in_order(connections[0], START, end)
        yield from _by_workers(database_url, _count(connections[0], START, end), START, end)


def _activity(
    connections: list[Connection], what: str, start: datetime, end: datetime, why: str
) -> Iterator[Measurement]:
    count = _count(connections[0], start, end)
    _write(connections, start, end)  # plans and caches
    one: Cost | None = None
    for number in NUMBERS:
        connections[0].execute(f"TRUNCATE {DERIVED}")
        cost = _write(connections[:number], start, end)
        one = one or cost
        yield from _figures(f"address_activity_{what}_{number}", count, cost, f"{why}, {count:,} transactions", one)


def _in_order(connection: Connection, start: datetime, end: datetime) -> Iterator[Measurement]:
    """The contexts, which only one connection publishes."""
    cost = _cost([connection], lambda: publish_network_baseline(connection, start, end))
    yield from _figures("contexts", _count(connection, start, end), cost, "by one connection, in order")


def _by_workers(database_url: str, count: int, start: datetime, end: datetime) -> Iterator[Measurement]:
    """Features by processes of their own, as runs on several workers compute them."""
    most = max(NUMBERS)
    with ProcessPoolExecutor(most, multiprocessing.get_context("spawn")) as workers:
        _features(workers, database_url, split(start, end, most))  # imports, plans and caches
        one: Cost | None = None
        for number in NUMBERS:
            cost = _features(workers, database_url, split(start, end, number))
            one = one or cost
            why = f"{number} workers; baseline: one" if number > 1 else "one worker"
            yield from _figures(f"window_features_{number}", count, cost, why, one)


def _features(workers: ProcessPoolExecutor, database_url: str, parts: list[Part]) -> Cost:
    began = time.perf_counter()
    costs = [one.result() for one in [workers.submit(_features_of, database_url, part) for part in parts]]
    seconds = time.perf_counter() - began
    return Cost(seconds, sum(cost.server for cost in costs), sum(cost.worker for cost in costs))


def _features_of(database_url: str, part: Part) -> Cost:
    with connect(database_url) as connection:
        return _cost([connection], lambda: [None for _ in write_features(connection, part.start, part.end)])


def _figures(name: str, count: int, cost: Cost, why: str, one: Cost | None = None) -> Iterator[Measurement]:
    """The rate, and what a transaction takes of a core."""
    yield Measurement(name, count / cost.seconds, "tx/s", baseline=one and count / one.seconds, why=why)
    for who, took, of_one in (
        ("postgres", cost.server, one and one.server),
        ("worker", cost.worker, one and one.worker),
    ):
        cpu, baseline = 1e6 * took / count, of_one and 1e6 * of_one / count
        yield Measurement(f"{name}_{who}", cpu, "us", baseline=baseline, why="of a core, a transaction")


def _write(connections: list[Connection], start: datetime, end: datetime) -> Cost:
    return _cost(connections, lambda: [None for _ in write_address_activity(connections, start, end)])


def _cost(connections: list[Connection], work: Callable[[], object]) -> Cost:
    backends = [psutil.Process(connection.info.backend_pid) for connection in connections]
    server, client, began = _cpu(backends), time.process_time(), time.perf_counter()
    work()
    return Cost(time.perf_counter() - began, _cpu(backends) - server, time.process_time() - client)


def _cpu(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def _count(connection: Connection, start: datetime, end: datetime) -> int:
    query = "SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s"
    return int(scalar(connection, query, [start, end]))


def _land_dense(connection: Connection, rate: float) -> None:
    simulated = Simulator("2024-03", seed=9, start=DENSE, rate=rate).until(DENSE + WINDOW)
    transactions = (tx.transaction("bulk") for tx in simulated)
    while chunk := list(islice(transactions, CHUNK)):
        with connection.transaction():
            land_transactions(connection, chunk)
