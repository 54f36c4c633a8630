"""Simulated history: an hour of traffic landed in seconds, so that a new system has something to learn from."""

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
    """The history could not be landed, and nothing would be learned."""


class SimulatedHistory:
    """The history from `start` to the window in which the live traffic begins, landed beside that traffic.

    The file `landed_file` is made once all of it is there. A database that holds transactions keeps what it has.
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
        """Begin to land what was before the window of the first live transaction."""
        self._end = window_start(first_live)
        self._may_begin.set()

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Land in a thread during the block, once `land_until` is called; the end of the block ends it."""
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
    """Land the simulator's traffic up to `end` as the live feed's would be. Returns the rows."""
    return sum(land_batches(database_url, simulator, end))


def land_batches(database_url: str, simulator: Simulator, end: datetime) -> Iterator[int]:
    """The same in steps: gives the rows of each batch once it is committed."""
    with connect(database_url, application="txwatch history") as connection:
        traffic = (simulated.transaction("bulk") for simulated in simulator.until(end))
        while batch := list(islice(traffic, BATCH)):
            with connection.transaction():
                landed = len(land_transactions(connection, batch))
            yield landed
