"""How much one worker's memory grows over a million transactions, after it has warmed up."""

from collections.abc import Iterator

import psutil

from benchmarks.harness import Bench, Measurement
from tests.waiting import wait_until
from txwatch.store.database import connect

WARM_UP = 300_000
"""By then its memory of recent txids is full."""
COUNT = 1_000_000
RATE = 12_000
"""Below what it can do, so that what is measured is what it keeps, and not what waits."""
GOAL_MB = 50


def measure(bench: Bench) -> Iterator[Measurement]:
    url = bench.database()
    warm_up, count = bench.size(WARM_UP), bench.size(COUNT)
    with bench.ingestion(url, warm_up + count, RATE) as worker, connect(url) as connection:
        process = psutil.Process(worker.pid)

        def received(number: int) -> bool:
            row = connection.execute("SELECT received FROM ingest_lease").fetchone()
            return row is not None and row[0] >= number

        def memory() -> float:
            return process.memory_info().rss / 1e6

        wait_until(lambda: received(warm_up), "the worker is warm", 300)
        before = memory()
        wait_until(lambda: received(warm_up + count), "all have landed", 600)
        after = memory()
    yield Measurement("ingest_memory_warm", before, "MB")
    yield Measurement("ingest_memory_growth", after - before, "MB", at_most=GOAL_MB, why=f"over {count:,} transactions")
