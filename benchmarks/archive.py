"""The archive: bytes a transaction in Postgres and as Parquet, the rate of archiving, and look-ups over many days."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.features import land_simulated
from benchmarks.harness import PROJECT, Bench, Measurement
from tests.features.window_lane import materialize
from txwatch.archive.checksum import content
from txwatch.archive.datasets import ARCHIVED, FORMAT, TRANSACTIONS, Dataset
from txwatch.archive.days import begin_day, day_span, record_day
from txwatch.archive.manifest import Archive, Manifest, digest
from txwatch.archive.query import ask
from txwatch.archive.reading import read_parquet
from txwatch.archive.stored import stored_rows
from txwatch.archive.writing import archive_day, write_parquet
from txwatch.clock import WINDOW, window_start
from txwatch.ingest.recording import replay
from txwatch.store.database import Connection, connect, scalar

HOURS = 1.0
DAYS = 3
DAY_ROWS = 475_000
"""Transactions of a day at 5.5 a second."""
GOAL_HOT, GOAL_COLD = 1_400, 400
GOAL_LOOK_UP_SECONDS = 1.0
CAPTURE = "mempool-2024-03.jsonl.gz"
_SCORES = (
    "INSERT INTO transaction_scores"
    " (txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons, pattern)"
    " SELECT txid, '1', context_version, seen_at, 'live', 0.3 + random() / 3, 0.6, false, '[]',"
    " hashtextextended(txid, 0) FROM transaction_features"
)


def measure(bench: Bench) -> Iterator[Measurement]:
    """Bytes of simulated and of real traffic, the rate of archiving, and look-ups over generated days."""
    url = bench.database()
    hours = max(0.2, HOURS / 20) if bench.quick else HOURS
    land_simulated(url, hours)
    archive = Archive(bench.folder / "archive", bench.folder / "archive-files")
    yield from _bytes_and_rate(url, archive, "simulated", f"{hours:g} h of simulated traffic")
    yield from _look_ups(url, archive, bench.size(DAYS), bench.size(DAY_ROWS))
    shared = Path(os.environ.get("TXWATCH_SHARED") or PROJECT.parent / "shared") / "data" / CAPTURE
    if shared.exists():
        url = bench.database()
        with connect(url) as connection:
            replay(connection, shared)
        real = Archive(bench.folder / "archive-real", bench.folder / "archive-files")
        yield from _bytes_and_rate(url, real, "march", "8,131 transactions of March 2024")


def _bytes_and_rate(url: str, archive: Archive, name: str, of: str) -> Iterator[Measurement]:
    with connect(url) as connection:
        first, last = connection.execute("SELECT min(seen_at), max(seen_at) FROM transactions").fetchall()[0]
        materialize(connection, window_start(first), window_start(last) + WINDOW)
        connection.execute(_SCORES)
        connection.execute("VACUUM FULL ANALYZE transactions, transaction_scores")
        rows = scalar(connection, "SELECT count(*) FROM transactions")
        hot = 0.0
        for dataset in ARCHIVED.values():
            heap, indexes = _sizes(connection, dataset.table)
            hot += (heap + indexes) / rows
            why = f"a transaction, {of}"
            yield Measurement(f"hot_bytes_{dataset.name}_{name}", heap / rows, "B", why=why)
            yield Measurement(f"hot_bytes_{dataset.name}_indexes_{name}", indexes / rows, "B", why=why)
        cold, seconds = 0.0, 0.0
        for dataset in ARCHIVED.values():
            began = time.perf_counter()
            manifests = [archive_day(connection, archive, dataset, day, last) for day in _days(first, last)]
            seconds += time.perf_counter() - began
            size = sum(manifest.bytes for manifest in manifests) / rows
            cold += size
            yield Measurement(f"cold_bytes_{dataset.name}_{name}", size, "B", why=f"a transaction; {of}")
        yield Measurement(f"hot_bytes_{name}", hot, "B", at_most=GOAL_HOT, why="a transaction with features and score")
        yield Measurement(
            f"cold_bytes_{name}", cold, "B", baseline=hot, at_most=GOAL_COLD, why="the same; baseline: hot"
        )
        yield Measurement(f"archived_{name}", rows / seconds, "tx/s", why="three files, compared with the database")


def _sizes(connection: Connection, table: str) -> tuple[int, int]:
    """Bytes of a table and of its indexes, with all its days."""
    query = (
        "SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class WHERE oid = %(table)s::regclass"
        " OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(table)s::regclass)"
    )
    heap, indexes = connection.execute(query, {"table": table}).fetchall()[0]
    return int(heap), int(indexes)


def _days(first: datetime, last: datetime) -> list[date]:
    days = (last.astimezone(UTC).date() - first.astimezone(UTC).date()).days
    return [first.astimezone(UTC).date() + timedelta(days=n) for n in range(days + 1)]


@dataclass(frozen=True)
class LookUp:
    """A question, and how it is asked."""

    name: str
    query: str
    day: date | None = None
    address: str | None = None


def _look_ups(url: str, archive: Archive, days: int, rows: int) -> Iterator[Measurement]:
    """Each question to files that no cache holds, after the engine itself was used once."""
    with connect(url) as connection:
        tables = list(stored_rows(connection, TRANSACTIONS, None, None))
        newest = _days(*connection.execute("SELECT min(seen_at), max(seen_at) FROM transactions").fetchall()[0])[-1]
        for n in range(1, days + 1):
            _generate_day(connection, archive, tables, newest + timedelta(days=n), rows)
    address = rare_address(tables)
    whales = "SELECT txid, value_sat FROM transactions WHERE value_sat >= 50000000000 ORDER BY value_sat DESC"
    asked = [
        # Once for the files to be found sound, which is remembered.
        LookUp("first", "SELECT count(*) FROM transactions"),
        LookUp("txid", f"SELECT * FROM transactions WHERE txid = '{tables[0]['txid'][0]}'"),  # noqa: S608
        LookUp("amount_range", "SELECT * FROM transactions WHERE value_sat BETWEEN 10000000000 AND 10010000000"),
        LookUp("whales_of_a_day", whales, newest + timedelta(days=1)),
        LookUp("address", "SELECT txid, seen_at, value_sat FROM transactions", address=address),
    ]
    why = f"{days} days of {rows:,} transactions, files in no cache"
    yield from look_ups(url, archive, asked, why)
    memory = peak_memory(url, archive, whales)
    yield Measurement("query_memory", memory, "MB", at_most=1_000, why=f"of txwatch query as a process, {why}")


def look_ups(
    url: str, archive: Archive, asked: Sequence[LookUp], why: str, prefix: str = "look_up"
) -> Iterator[Measurement]:
    """Each question to files that no cache holds: seconds, and what it takes of a core."""
    for question in asked:
        forget(archive)
        began, used = time.perf_counter(), time.process_time()
        day, address = question.day, question.address
        with ask(url, archive, question.query, since=day, until=day, address=address) as answer:
            found = sum(batch.num_rows for batch in answer.batches)
        seconds, busy = time.perf_counter() - began, time.process_time() - used
        name, told = f"{prefix}_{question.name}", f"{found:,} rows of {why}"
        yield Measurement(name, seconds, "s", why=told)
        goal = None if question.name == "first" else GOAL_LOOK_UP_SECONDS
        yield Measurement(f"{name}_cpu", busy, "s", at_most=goal, why="what it takes of a core, whoever else uses it")


_TELLING_ITS_PEAK = (
    "import atexit, pathlib, runpy, sys;"
    " atexit.register(lambda: sys.stderr.write(pathlib.Path('/proc/self/status').read_text()));"
    " runpy.run_module('txwatch', run_name='__main__', alter_sys=True)"
)


def peak_memory(url: str, archive: Archive, query: str) -> float:
    """MB that the command took at most."""
    settings = {"DATABASE_URL": url, "TXWATCH_ARCHIVE": str(archive.place), "TXWATCH_HOME": str(archive.place.parent)}
    arguments = [sys.executable, "-c", _TELLING_ITS_PEAK, "query", query, "--format", "csv"]
    ended = subprocess.run(
        arguments, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    return peak_mb(ended.stderr)


def peak_mb(status: str) -> float:
    """MB, by what the system says of a process: its resource usage begins with that of what started it."""
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    return peak / 1_000


def rare_address(tables: list[pa.Table]) -> str:
    """An address that one transaction pays, which no generated day has."""
    together = pa.concat_tables(tables)
    paid = pc.value_counts(together["outputs"].slice(_sampled(together)).combine_chunks().flatten().field("addr"))
    return next(one["values"] for one in paid.to_pylist() if one["counts"] == 1 and one["values"])


def _sampled(table: pa.Table) -> int:
    """How many of the first rows generated days are drawn from."""
    return table.num_rows - 100


def _generate_day(connection: Connection, archive: Archive, tables: list[pa.Table], day: date, rows: int) -> None:
    """A day of the same transactions at other moments and with other txids, as archived."""
    random = np.random.default_rng(day.toordinal())
    start, end = day_span(day)
    together = pa.concat_tables(tables)
    at = np.sort(random.integers(0, (end - start) // timedelta(microseconds=1), rows)) + int(start.timestamp()) * 10**6
    shuffled = Random(day.toordinal())  # noqa: S311 - the same day each time

    def parts() -> Iterator[pa.Table]:
        for begin in range(0, rows, 16_384):
            n = min(16_384, rows - begin)
            part = together.take(pa.array(random.integers(0, _sampled(together), n)))
            txids = pa.array([f"{shuffled.getrandbits(256):064x}" for _ in range(n)])
            moments = pa.array(at[begin : begin + n]).cast(TRANSACTIONS.schema.field("seen_at").type)
            part = part.set_column(0, TRANSACTIONS.schema.field("txid"), txids)
            yield part.set_column(1, TRANSACTIONS.schema.field("seen_at"), moments)

    _publish(connection, archive, TRANSACTIONS, day, parts())


def _publish(connection: Connection, archive: Archive, dataset: Dataset, day: date, tables: Iterator[pa.Table]) -> None:
    draft = archive.draft(dataset, day)
    with draft.open("wb") as file:
        write_parquet(file, tables, dataset, day)
    size, sha256 = digest(draft)
    written = content(read_parquet(draft))
    published = archive.publish(dataset, day, draft, sha256)
    manifest = Manifest(
        dataset.name, day, FORMAT, published.name, size, sha256, written.rows, written.checksum, written.rows,
        written.checksum, datetime.now(UTC),
    )  # fmt: skip
    archive.name(manifest, dataset)
    begin_day(connection, dataset, day)
    record_day(connection, manifest, 0)


def forget(archive: Archive) -> None:
    """Have the system drop what it holds of the files in memory."""
    assert isinstance(archive.place, Path)
    for file in archive.place.rglob("*.parquet"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
