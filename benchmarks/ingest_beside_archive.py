"""Landing of the live feed while a day beside it is archived and given up, in a niced process as Dagster's runs are.

As a process, `python -m benchmarks.ingest_beside_archive URL ARCHIVE WORK DAY` archives the day and gives it up.
"""

import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from benchmarks.harness import Bench, Measurement
from benchmarks.month import DAY_SECONDS, FIRST, generate_day, give_up, land_day, window_lane
from blockchain_assets.platform.code_server import NICENESS
from tests.waiting import wait_until
from txwatch.archive.datasets import ARCHIVED
from txwatch.archive.days import day_span
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.clock import utc_now
from txwatch.store.database import Connection, connect

RATE = 20
REST_SECONDS = 60
WARM_SECONDS = 5
"""Left out: the worker and the database warm up."""
MOST_SECONDS = 1_800
"""The feed ends then."""
GOAL_RATIO = 1.5


def measure(bench: Bench) -> Iterator[Measurement]:
    """The 99th percentile from receipt to the row, at rest and beside the archive, and their ratio."""
    url = bench.database()
    archive = Archive(bench.folder / "live-archive", bench.folder / "live-archive-files")
    with connect(url) as connection:
        lane = window_lane(connection, 0.2)
        generated = generate_day(FIRST, bench.size(DAY_SECONDS), bench.folder)
        rows = land_day(connection, FIRST, generated, lane.features)
        connection.execute("VACUUM ANALYZE")
    with bench.ingestion(url, RATE * MOST_SECONDS, RATE), connect(url) as connection:
        _wait_for(connection, RATE * WARM_SECONDS)
        at_rest = utc_now()
        _wait_for(connection, RATE * (WARM_SECONDS + bench.size(REST_SECONDS)))
        began = utc_now()
        _archive_beside(bench, url, archive)
        ended = utc_now()
        rest, beside = _landing_ms(connection, at_rest, began), _landing_ms(connection, began, ended)
    why = f"{RATE} tx/s; a day of {rows:,} transactions in {(ended - began).total_seconds():.0f} s"
    yield Measurement("landing_p99_at_rest", rest, "ms", why=f"{RATE} tx/s")
    yield Measurement(
        "landing_p99_beside_archive",
        beside,
        "ms",
        baseline=rest,
        at_most=GOAL_RATIO * rest,
        why=f"{why}; baseline: rest",
    )


def _wait_for(connection: Connection, received: int) -> None:
    def landed() -> bool:
        row = connection.execute("SELECT received FROM ingest_lease").fetchone()
        return row is not None and row[0] >= received

    wait_until(landed, f"{received} have landed")


def _landing_ms(connection: Connection, start: datetime, end: datetime) -> float:
    row = connection.execute(
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)"
        " FROM transactions WHERE seen_at >= %s AND seen_at < %s",
        [start, end],
    ).fetchone()
    assert row is not None
    return float(row[0])


def _archive_beside(bench: Bench, url: str, archive: Archive) -> None:
    niced = "-m", "txwatch.system.begin", f"--nice={NICENESS}", sys.executable
    arguments = "-m", "benchmarks.ingest_beside_archive", url, str(archive.place), str(archive.work), str(FIRST)
    with bench.process(*niced, *arguments) as process:
        status = process.wait(MOST_SECONDS)
    assert status == 0, status


def _archive_and_give_up(url: str, archive: Archive, day: date) -> None:
    _, after = day_span(day)
    with connect(url) as connection:
        for dataset in ARCHIVED.values():
            archive_day(connection, archive, dataset, day, after)
        give_up(connection, archive, after)


if __name__ == "__main__":
    _url, _place, _work, _day = sys.argv[1:]
    _archive_and_give_up(_url, Archive(Path(_place), Path(_work)), date.fromisoformat(_day))
