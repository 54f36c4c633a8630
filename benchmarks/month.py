"""A month in the archive: landed, archived, verified and given up a day at a time, then asked, drawn from and rescored.

Days are simulated, each with a seed of its own, by processes that work ahead of the database by a day or two, so that
the disk holds no more than that besides the archive. Features and scores are planted: drawn from those of one hour that
the window lane has computed, for to compute a month of them would take hours, and archiving asks for their form alone.
`--days` makes it shorter.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from joblib import cpu_count
from psycopg import sql

from benchmarks.archive import LookUp, look_ups, peak_mb, peak_memory, rare_address
from benchmarks.harness import Bench, Measurement
from tests.features.window_lane import materialize
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.days import day_span
from txwatch.archive.manifest import Archive
from txwatch.archive.reading import day_rows
from txwatch.archive.upkeep import give_up_days
from txwatch.archive.writing import archive_day
from txwatch.clock import MICROSECOND, WINDOW, window_range
from txwatch.detection.model import Model
from txwatch.detection.score_windows import score_windows
from txwatch.detection.training import train
from txwatch.detection.training_days import draw_day
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.store import BinaryColumn, copy_rows, feature_columns, read_recent_features
from txwatch.lab.evaluation.backtest_processes import DayBacktest, try_days
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.retention import ensure_days
from txwatch.store.transactions import copy_row, land_transactions
from txwatch.wire.transaction import Transaction

FIRST = date(2024, 3, 1)
RATE = 5.5
DAY_SECONDS = 86_400
GENERATORS = 2
MOST_TRIES = 10
GOAL_ARCHIVED, GOAL_TRAINING_SECONDS, GOAL_RESCORED, GOAL_MEMORY_MB = 10_000, 120, 10, 1_000
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Transaction.__struct_fields__))
_SCORES = (
    "INSERT INTO transaction_scores"
    " (txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons, pattern)"
    " SELECT txid, '1', 1, seen_at, 'live', 0.3 + random() / 3, 0.6, random() < 0.0006, '[]',"
    " hashtextextended(txid, 0) FROM transactions WHERE seen_at >= %s AND seen_at < %s"
)


def measure(bench: Bench) -> Iterator[Measurement]:
    """The rate of each step, look-ups over the whole month, its training set, and the rescoring of a day."""
    url, seconds = bench.database(), bench.size(DAY_SECONDS)
    days = [FIRST + timedelta(days=n) for n in range(max(2, 2 if bench.quick else bench.days))]
    archive = Archive(bench.folder / "month", bench.folder / "month-files")
    with connect(url) as connection:
        lane = window_lane(connection, 0.2 if bench.quick else 1.0)
        work = _archive_all(connection, archive, days, bench.folder, seconds, lane.features)
    why = f"{len(days)} days, {work.rows:,} transactions"
    yield Measurement(
        "month_generated", work.rows / work.generating, "tx/s", why=f"waited for {GENERATORS} processes; {why}"
    )
    yield Measurement("month_landed", work.rows / work.landing, "tx/s", why=f"with planted features and scores; {why}")
    yield Measurement(
        "month_archived", work.rows / work.archiving, "tx/s", at_least=GOAL_ARCHIVED, why=f"three files each; {why}"
    )
    yield Measurement(
        "month_given_up", work.rows / work.giving_up, "tx/s", why=f"read again, compared and deleted; {why}"
    )
    yield Measurement("month_bytes", work.bytes / work.rows, "B", why=f"a transaction in the archive; {why}")
    with connect(url) as connection:
        start, _ = day_span(days[-1])
        span = (start, start + timedelta(minutes=30))
        address = rare_address(
            list(day_rows(connection, archive, TRANSACTIONS, days[-1], ("txid", "seen_at", "outputs"), span))
        )
    whales = "SELECT txid, value_sat FROM transactions WHERE value_sat >= 50000000000 ORDER BY value_sat DESC"
    amounts = "SELECT * FROM transactions WHERE value_sat BETWEEN 10000000000 AND 10010000000"
    asked = [
        LookUp("first", "SELECT count(*) FROM transactions"),
        LookUp("amount_range", amounts),
        LookUp("whales_of_a_day", whales, days[len(days) // 2]),
        LookUp("address", "SELECT txid, seen_at, value_sat FROM transactions", address=address),
    ]
    yield from look_ups(url, archive, asked, f"{why}, files in no cache", "month_look_up")
    memory = peak_memory(url, archive, whales)
    yield Measurement("month_query_memory", memory, "MB", at_most=GOAL_MEMORY_MB, why=f"of txwatch query; {why}")
    yield from _training(url, archive, days, why)
    yield from _rescoring(url, archive, days, lane)


@dataclass(frozen=True)
class Lane:
    """The window lane on an hour of traffic: its rate in tx/s, features and scores together, and what it computed."""

    rate: float
    features: Floats
    model: Model


@dataclass
class _Work:
    """What was done, and the seconds that it took."""

    rows: int = 0
    bytes: int = 0
    generating: float = 0.0
    landing: float = 0.0
    archiving: float = 0.0
    giving_up: float = 0.0


def window_lane(connection: Connection, hours: float) -> Lane:
    """Land an hour, compute and score its windows, and take all of it away again."""
    start = datetime(2024, 2, 1, tzinfo=UTC)
    end = start + timedelta(hours=hours) // WINDOW * WINDOW
    simulated = Simulator("2024-03", seed=1, start=start, rate=RATE).until(end)
    with connection.transaction():
        land_transactions(connection, [tx.transaction("bulk") for tx in simulated])
    began = time.perf_counter()
    materialize(connection, start, end)
    computing = time.perf_counter() - began
    features = read_recent_features(connection, start)
    trained = train(features, start, end, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=1_000)
    model = trained.model("1")
    began = time.perf_counter()
    score_windows(connection, window_range(start, end), model, whale_btc=500)
    scoring = time.perf_counter() - began
    connection.execute(
        "TRUNCATE transactions, transaction_features, transaction_scores, address_activity, address_windows,"
        " network_baseline, scored_windows CASCADE"
    )
    return Lane(len(features) / (computing + scoring), features, model)


def _archive_all(
    connection: Connection, archive: Archive, days: list[date], folder: Path, seconds: int, features: Floats
) -> _Work:
    """Every day through the database into the archive, while the next ones are generated."""
    work = _Work()
    waiting = list(days)
    ahead: list[Future[Path]] = []
    with ProcessPoolExecutor(GENERATORS, mp_context=get_context("spawn")) as generators:
        for day in days:
            while waiting and len(ahead) < GENERATORS:
                ahead.append(generators.submit(generate_day, waiting.pop(0), seconds, folder))
            began = time.perf_counter()
            file = ahead.pop(0).result()
            work.generating += time.perf_counter() - began
            began = time.perf_counter()
            work.rows += land_day(connection, day, file, features)
            work.landing += time.perf_counter() - began
            file.unlink()
            _, after = day_span(day)
            began = time.perf_counter()
            work.bytes += sum(archive_day(connection, archive, one, day, after).bytes for one in ARCHIVED.values())
            work.archiving += time.perf_counter() - began
            began = time.perf_counter()
            give_up(connection, archive, after)
            work.giving_up += time.perf_counter() - began
            connection.execute("VACUUM transactions, transaction_scores")
    return work


def give_up(connection: Connection, archive: Archive, before: datetime) -> None:
    """Give up what was seen before a midnight. What a vacuum holds is tried again, as on the next night."""
    for _ in range(MOST_TRIES):
        kept = [one.why for one in give_up_days(connection, archive, before, before) if one.why is not None]
        if not kept:
            return
    raise AssertionError(kept)


def generate_day(day: date, seconds: int, folder: Path) -> Path:
    """A file of COPY with the day's transactions, in a process of its own. The same day is the same traffic."""
    start, _ = day_span(day)
    simulator = Simulator("2024-03", seed=day.toordinal(), start=start, rate=RATE)
    file = folder / f"{day}.copy"
    with file.open("w") as target:
        for tx in simulator.until(start + timedelta(seconds=seconds)):
            target.write(copy_row(tx.transaction("bulk")))
    return file


def land_day(connection: Connection, day: date, file: Path, features: Floats) -> int:
    """Copy the day in, with features and scores planted. Returns its transactions."""
    start, end = day_span(day)
    ensure_days(connection, "transaction_features", start, end)
    with connection.transaction():
        copy = sql.SQL("COPY transactions ({}) FROM STDIN").format(_COLUMNS)
        with connection.cursor().copy(copy) as into, file.open("rb") as source:
            while block := source.read(1 << 20):
                into.write(block)
        rows = connection.execute(
            "SELECT txid, (extract(epoch FROM seen_at) * 1000000)::bigint, value_sat FROM transactions"
            " WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at, txid",
            [start, end],
        ).fetchall()
        txids, moments, values = zip(*rows, strict=True)
        planted = features[np.random.default_rng(day.toordinal()).integers(0, len(features), len(rows))]
        planted[:, FEATURE_NAMES.index("value_sat")] = values
        us = np.array(moments)
        width = WINDOW // MICROSECOND
        copy_rows(
            connection,
            "transaction_features",
            [
                BinaryColumn.text("txid", txids, width=64),
                BinaryColumn.times("seen_at", us),
                BinaryColumn.times("window_start", us // width * width),
                BinaryColumn.integers("context_version", np.ones(len(us), np.int64)),
                *feature_columns(planted),
            ],
        )
        connection.execute(_SCORES, [start, end])
    return len(rows)


def _training(url: str, archive: Archive, days: list[date], why: str) -> Iterator[Measurement]:
    """The training set in a process of its own, for its memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        seconds, rows, memory = process.submit(draw, url, archive, days).result()
    told = f"{rows:,} rows of {why}"
    yield Measurement("month_training_set", seconds, "s", at_most=GOAL_TRAINING_SECONDS, why=told)
    yield Measurement("month_training_memory", memory, "MB", at_most=GOAL_MEMORY_MB, why="of that process, at most")


def draw(url: str, archive: Archive, days: list[date]) -> tuple[float, int, float]:
    """Draw a day of training from all of them: seconds, rows, and MB that this process took at most."""
    until = day_span(days[-1])[1]
    began = time.perf_counter()
    with connect(url) as connection:
        drawn = draw_day(connection, archive, until, len(days), seed=1)
    seconds = time.perf_counter() - began
    assert not drawn.left_out, drawn.left_out
    return seconds, len(drawn.frame), peak_mb(Path("/proc/self/status").read_text())


def _rescoring(url: str, archive: Archive, days: list[date], lane: Lane) -> Iterator[Measurement]:
    """A day for each core, as `txwatch backtest --days` tries them; the month is so many times that."""
    cores = cpu_count()
    tried = DayBacktest(url, archive, [lane.model], whale_btc=500)
    began = time.perf_counter()
    found = [outcomes for _, outcomes in try_days(tried, days[-cores:], cores)]
    seconds = time.perf_counter() - began
    transactions = sum(outcomes[0].transactions for outcomes in found if not isinstance(outcomes, str))
    rate = transactions / seconds
    yield Measurement("month_window_lane", lane.rate, "tx/s", why="contexts, features and scores of an hour")
    yield Measurement(
        "month_rescored", rate, "tx/s", baseline=lane.rate, at_least=GOAL_RESCORED * lane.rate,
        why=f"{len(found)} days by one model, as many processes as cores: {cores}; baseline: the window lane",
    )  # fmt: skip
