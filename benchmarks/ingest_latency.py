"""How long a transaction takes from the socket to the durable row, at steady rates of arrival."""

from collections.abc import Iterator

from benchmarks.harness import Bench, Measurement
from tests.waiting import wait_until
from txwatch.store.database import connect

SECONDS = 12
"""At each rate. The first second, in which the worker and the database warm up, is left out."""
RATES = (10, 100, 1_000)
GOAL_MS = 1_000


def measure(bench: Bench) -> Iterator[Measurement]:
    for rate in RATES:
        p50, p99 = landing_ms(bench, rate)
        yield Measurement(f"landing_p50_at_{rate}", p50, "ms")
        yield Measurement(f"landing_p99_at_{rate}", p99, "ms", at_most=GOAL_MS)


def landing_ms(bench: Bench, rate: int) -> tuple[float, float]:
    """Median and 99th percentile from receipt to the row, in ms."""
    url = bench.database()
    count = rate * (4 if bench.quick else SECONDS)
    with bench.ingestion(url, count, rate), connect(url) as connection:

        def landed() -> bool:
            row = connection.execute("SELECT received FROM ingest_lease").fetchone()
            return row is not None and row[0] >= count

        wait_until(landed, "all have landed")
        row = connection.execute(
            "SELECT percentile_cont(ARRAY[0.5, 0.99])"
            " WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)"
            " FROM transactions WHERE seen_at > (SELECT min(seen_at) + interval '1 second' FROM transactions)"
        ).fetchone()
    assert row is not None
    return float(row[0][0]), float(row[0][1])
