"""Features: from stored transactions to rows of features, out of Feast for training, and online for the live lane.

Each function measures one thing on a migrated database and returns its figures by name.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from benchmarks.harness import Bench, Measurement
from tests.redis_server import redis_server
from txwatch.clock import WINDOW, window_range
from txwatch.features.addresses import write_address_activity
from txwatch.features.batch import read_batch
from txwatch.features.network import publish_network_baseline, read_network_contexts
from txwatch.features.store import write_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.retention import drop_expired
from txwatch.store.transactions import land_transactions

if TYPE_CHECKING:
    from feast import FeatureStore

Results = dict[str, dict[str, Any]]

START = datetime(2024, 3, 13, tzinfo=UTC)
RATE = 7.0
"""Transactions a second: about twice the ordinary rate of 2024, and near the record day."""
BACKFILL_GOAL = 15_000
LOOKUPS = 300
COPIED = {"address_activity": "window_start", "transaction_features": "seen_at"}
DERIVED = "address_activity, address_windows, network_baseline, transaction_features"


def land_simulated(database_url: str, hours: float) -> int:
    """Land simulated traffic from START on. Returns how many transactions it was."""
    simulated = Simulator("2024-03", seed=7, start=START, rate=RATE).until(START + timedelta(hours=hours))
    transactions = (tx.transaction("bulk") for tx in simulated)
    landed = 0
    with connect(database_url) as connection:
        while chunk := list(islice(transactions, 5_000)):
            with connection.transaction():
                landed += len(land_transactions(connection, chunk))
    return landed


def backfill(database_url: str, lengths: tuple[float, ...] = (1, 6, 24)) -> Results:
    """Transactions a second from stored rows to features, context included. Expects the longest length landed.

    The limit is what reading the transactions into columns, and nothing else, gives.
    """
    results: Results = {}
    with connect(database_url) as connection:
        _backfill(connection, START, START + timedelta(hours=min(lengths)))  # imports, plans and caches
        for hours in lengths:
            end = START + timedelta(hours=hours)
            count = _count(connection, START, end)
            connection.execute(f"TRUNCATE {DERIVED}")
            seconds = _seconds(lambda end=end: _backfill(connection, START, end))
            reading = _seconds(lambda end=end: _read(connection, START, end))
            results[f"features_backfill_{hours:g}h"] = _result(count / seconds, "tx/s", limit=count / reading)
    return results


def training_retrieval(database_url: str, sizes: tuple[int, ...] = (10_000, 100_000, 500_000)) -> Results:
    """Rows a second through Feast's offline retrieval by range of time. Expects features of the largest size.

    The baseline of the first size is Feast's point-in-time join over an entity frame of the same rows.
    """
    from feature_repo.apply import apply
    from txwatch.features.feast import feature_store, training_features

    apply(database_url)
    results: Results = {}
    with connect(database_url) as connection, feature_store(database_url) as store:
        training_features(store, START, START + WINDOW)
        for size in sizes:
            row = connection.execute(
                "SELECT seen_at FROM transaction_features ORDER BY seen_at OFFSET %s LIMIT 1", [size]
            ).fetchone()
            if row is None:
                raise ValueError(f"there are fewer than {size} rows of features to retrieve")
            began = time.perf_counter()
            retrieved = len(training_features(store, START, row[0]))
            rate = retrieved / (time.perf_counter() - began)
            baseline = _point_in_time(store, connection, size) if size == sizes[0] else None
            results[f"features_training_{size}"] = _result(rate, "rows/s", baseline=baseline)
    return results


def online_lookup(database_url: str, redis_url: str | None = None) -> Results:
    """Milliseconds for the context of one window from the online store; the limit is the table by its key."""
    from feature_repo.apply import apply
    from txwatch.features.feast import feature_store, online_network, push_network_contexts

    name = "postgres" if redis_url is None else "redis"
    apply(database_url, redis_url)
    with connect(database_url) as connection, feature_store(database_url, redis_url) as store:
        windows = window_range(START, START + timedelta(hours=1))
        push_network_contexts(store, list(read_network_contexts(connection, windows).values()))
        online = _milliseconds(lambda i: online_network(store, windows[i % len(windows)]))
        table = _milliseconds(lambda i: read_network_contexts(connection, [windows[i % len(windows)]]))
    return {
        f"features_online_{name}_p{p}": _result(
            float(np.percentile(online, p)), "ms", limit=float(np.percentile(table, p))
        )
        for p in (50, 99)
    }


def retention(database_url: str) -> Results:
    """Seconds to drop a day of address buckets and features as partitions; the baseline deletes the same rows."""
    with connect(database_url) as connection:
        before = START + timedelta(days=1)
        deleting = 0.0
        for table, column in COPIED.items():
            names = {
                "table": sql.Identifier(table),
                "copy": sql.Identifier(f"{table}_rows"),
                "column": sql.Identifier(column),
            }
            connection.execute(sql.SQL("CREATE TABLE {copy} AS TABLE {table}").format(**names))
            connection.execute(sql.SQL("CREATE INDEX ON {copy} ({column})").format(**names))
            delete = sql.SQL("DELETE FROM {copy} WHERE {column} < {before}").format(**names, before=sql.Literal(before))
            deleting += _seconds(lambda delete=delete: connection.execute(delete))
        dropped = {expired.table: expired.seconds for expired in drop_expired(connection, before)}
    return {
        "retention_day_dropped": _result(sum(dropped[table] for table in COPIED), "s", baseline=deleting),
        "retention_transactions_deleted": _result(dropped["transactions"], "s"),
    }


def measure(bench: Bench) -> Iterator[Measurement]:
    """All of them, in an order in which each finds what it expects."""
    database_url = bench.database()
    hours = 1 if bench.quick else 24
    land_simulated(database_url, hours)
    results = backfill(database_url, (1,) if bench.quick else (1, 6, 24))
    results |= training_retrieval(database_url, (10_000,) if bench.quick else (10_000, 100_000, 500_000))
    results |= online_lookup(database_url)
    if shutil.which("redis-server") is not None:
        with redis_server(bench.folder) as redis_url:
            results |= online_lookup(database_url, redis_url)
    results |= retention(database_url)
    for name, result in results.items():
        goal = BACKFILL_GOAL if "backfill" in name else None
        yield Measurement(name, **result, at_least=goal)


def _backfill(connection: Connection, start: datetime, end: datetime) -> None:
    for _ in write_address_activity([connection], start, end):
        pass
    publish_network_baseline(connection, start, end)
    for _ in write_features(connection, start, end):
        pass


def _read(connection: Connection, start: datetime, end: datetime) -> None:
    for window in window_range(start, end):
        read_batch(connection, window, window + WINDOW)


def _point_in_time(store: "FeatureStore", connection: Connection, size: int) -> float:
    import pandas as pd

    from txwatch.features.feast import FEATURE_SERVICE

    rows = connection.execute(
        "SELECT txid, seen_at FROM transaction_features ORDER BY seen_at LIMIT %s", [size]
    ).fetchall()
    entities = pd.DataFrame(rows, columns=["txid", "event_timestamp"])
    began = time.perf_counter()
    service = store.get_feature_service(FEATURE_SERVICE)
    store.get_historical_features(entity_df=entities, features=service).to_df()
    return size / (time.perf_counter() - began)


def _count(connection: Connection, start: datetime, end: datetime) -> int:
    row = connection.execute("SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s", [start, end])
    (count,) = row.fetchone() or (0,)
    return int(count)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _milliseconds(action: Callable[[int], object]) -> list[float]:
    action(0)
    return [1_000 * _seconds(lambda i=i: action(i)) for i in range(LOOKUPS)]


def _result(value: float, unit: str, baseline: float | None = None, limit: float | None = None) -> dict[str, Any]:
    return {"value": value, "unit": unit, "baseline": baseline, "limit": limit}
