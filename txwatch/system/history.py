"""Simulated history: an hour of traffic landed in seconds, for a new system to learn from."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from txwatch.clock import window_start
from txwatch.errors import UserError
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions

BATCH = 5_000
SEED = 1


class HistoryError(UserError):
    """The history could not be landed, so there is nothing to learn from."""


class SimulatedHistory:
    """The history from `start` to the window in which the live traffic begins, landed beside that traffic.

    `landed_file` is made once all of it is landed. Nothing is landed into a database that has a history.
    """

    def __init__(self, database_url: str, regime: str, start: datetime, span: timedelta, landed_file: Path) -> None:
        self._database_url = database_url
        self._simulator = Simulator(regime, seed=SEED, start=start)
        self._landed_file = landed_file
        self._end: datetime | None = None
        self._may_begin, self._stopped = threading.Event(), threading.Event()
        self._landing: Future[None] | None = None
        self.expected = round(self._simulator.rate * span.total_seconds())
        """Transactions, about."""
        self.landed = 0
        landed_file.unlink(missing_ok=True)

    def land_until(self, first_live: datetime) -> None:
        """Begin to land, up to the window of the first live transaction."""
        self._end = window_start(first_live)
        self._may_begin.set()

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Land in a thread, from the call of `land_until` to the end of the block."""
        with ThreadPoolExecutor(1, thread_name_prefix="history") as threads:
            self._landing = threads.submit(self._land)
            try:
                yield
            finally:
                self._stopped.set()
                self._may_begin.set()

    def raise_if_it_failed(self) -> None:
        """Raise HistoryError if something has ended the landing."""
        if self._landing is not None and self._landing.done() and (cause := self._landing.exception()) is not None:
            raise HistoryError(f"the simulated history could not be landed: {cause}") from cause

    def _land(self) -> None:
        self._may_begin.wait()
        if self._end is None:
            return
        with connect(self._database_url, application="txwatch history") as connection:
            begun = connection.execute("SELECT 1 FROM transactions WHERE source = 'bulk' LIMIT 1").fetchone()
        if begun is None:
            for landed in land_batches(self._database_url, self._simulator, self._end):
                self.landed += landed
                if self._stopped.is_set():
                    return
        self._landed_file.touch()


def land_history(database_url: str, simulator: Simulator, end: datetime) -> int:
    """Land the simulator's traffic up to `end` as if it came from the live feed. Returns the count of rows."""
    return sum(land_batches(database_url, simulator, end))


def land_batches(database_url: str, simulator: Simulator, end: datetime) -> Iterator[int]:
    """The same in batches. Yields the count of rows of each after its commit."""
    with connect(database_url, application="txwatch history") as connection:
        traffic = (simulated.transaction("bulk") for simulated in simulator.until(end))
        while batch := list(islice(traffic, BATCH)):
            with connection.transaction():
                landed = len(land_transactions(connection, batch))
            yield landed
