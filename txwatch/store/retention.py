"""The days that are kept: where the history starts, partitions by day, and dropping what is older than the retention.

A day's partition is made when the first row of it is written: captures and bulk loads reach years back, and nobody
can say beforehand which days will be needed.

The two large derived tables are partitioned by day and dropped a day at a time, in milliseconds, leaving nothing to
vacuum. `transactions` keeps its txid as primary key, for that makes landing idempotent whatever the time of a second
sighting; a partitioned table could not. It and the smaller tables are deleted from in batches by their index on time,
each batch a short transaction, so that landing never waits.

What was alerted, sent, labelled or answered stays: it is the record of what the program did.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import LiteralString

from psycopg import sql
from psycopg.errors import LockNotAvailable

from txwatch.clock import window_start
from txwatch.store.database import Connection, database_now
from txwatch.store.locks import Lock, wait_for


def record_history_start(connection: Connection, wanted: datetime | None = None) -> None:
    """Keep the wanted start. Without one keep what is kept already, and the first time the present day's midnight."""
    midnight = database_now(connection).replace(hour=0, minute=0, second=0, microsecond=0)
    connection.execute(
        "INSERT INTO history_start (first_window) VALUES (%s)"
        " ON CONFLICT (id) DO UPDATE SET first_window = coalesce(%s, history_start.first_window)",
        [as_window(wanted or midnight), wanted and as_window(wanted)],
    )


def read_history_start(connection: Connection) -> datetime | None:
    """The start of the first window; None before `record_history_start`."""
    row = connection.execute("SELECT first_window FROM history_start").fetchone()
    return row[0] if row else None


def as_window(moment: datetime) -> datetime:
    """The window that holds a moment, which is UTC if it does not say otherwise."""
    return window_start(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))


LOCK_MS = 500
"""A drop holds up all readers of the table for no longer."""
ATTEMPTS = 6
PAUSE_SECONDS = 10.0
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ExpiredDay:
    """A partition to drop, with the number of rows that the planner knew of. One that is in use stays."""

    name: str
    rows: int
    dropped: bool


def ensure_days(connection: Connection, table: str, start: datetime, end: datetime) -> None:
    """Make the partitions that rows of [start, end) go to, where they are missing. Safe to repeat."""
    for day in _days(start, end):
        name = partition_name(table, day)
        if _exists(connection, name):
            continue
        with connection.transaction():
            wait_for(connection, Lock.DAYS)
            if _exists(connection, name):
                continue
            parent, child = sql.Identifier(table), sql.Identifier(name)
            # Attaching blocks neither readers nor writers of the table; CREATE TABLE ... PARTITION OF would block both.
            connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
            connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    parent, child, sql.Literal(day.isoformat()), sql.Literal((day + _DAY).isoformat())
                )
            )


def drop_days(
    connection: Connection, table: str, before: datetime, wait: Callable[[float], None] = time.sleep
) -> list[ExpiredDay]:
    """Drop the partitions of days that end by a moment, oldest first, up to the first that is in use all the time.

    A drop waits for whoever reads the table, such as a backup, and all who come after it wait behind it. So it waits
    for LOCK_MS only, and is tried ATTEMPTS times, PAUSE_SECONDS apart; `wait` sleeps.
    """
    days: list[ExpiredDay] = []
    for name, rows in _partitions(connection, table):
        if partition_day(name) + _DAY <= before:
            in_use = bool(days) and not days[-1].dropped
            days.append(ExpiredDay(name, rows, not in_use and _drop(connection, name, wait)))
    return days


def _drop(connection: Connection, name: str, wait: Callable[[float], None]) -> bool:
    """Whether the partition could be dropped."""
    for attempt in range(ATTEMPTS):
        if attempt:
            wait(PAUSE_SECONDS)
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_MS}ms"))
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        except LockNotAvailable:
            continue
        return True
    return False


def partition_name(table: str, day: datetime) -> str:
    """The name of the partition that holds a day, UTC."""
    return f"{table}_{day:%Y%m%d}"


def partition_day(name: str) -> datetime:
    """The day that a partition of this name holds."""
    return datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)


def _partitions(connection: Connection, table: str) -> list[tuple[str, int]]:
    rows = connection.execute(
        "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = %s::regclass ORDER BY relname",
        [table],
    )
    return rows.fetchall()


def _exists(connection: Connection, name: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])


def _days(start: datetime, end: datetime) -> list[datetime]:
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + i * _DAY for i in range(-(-(end - first) // _DAY))]


BY_DAY = ("transaction_features", "address_activity")
BY_ROW = {
    "transaction_scores": "seen_at",
    "recent_scores": "as_of",
    "scored_windows": "window_start",
    "transactions": "seen_at",
    "network_baseline": "window_start",
    "address_windows": "window_start",
    "quarantined_messages": "received_at",
    "feed_gaps": "ended_at",
    "blocks": "seen_at",
}
"""The other tables that grow, and the column that says how old a row is. What was derived goes first."""
ONLINE = ("feast.txwatch_network_context", "feast.txwatch_transaction_features")
"""Feast's online tables in Postgres, by `event_ts`. In Redis, keys expire by themselves."""
DETAILS_DAYS = 14
"""What Dagster's runs logged is kept for so long; the runs, and what they materialized, as long as the data."""
BATCH = 20_000
_OLD_CONFIRMATIONS: LiteralString = (
    "DELETE FROM confirmations WHERE (txid, block_hash) IN ("
    "SELECT txid, block_hash FROM confirmations JOIN blocks ON hash = block_hash"
    " WHERE blocks.seen_at < {before} LIMIT {batch})"
)
_DETAIL: LiteralString = "asset_key IS NULL"
_OUTDATED_EVENT: LiteralString = (
    "id NOT IN (SELECT max(id) FROM dagster.event_logs WHERE asset_key IS NOT NULL"
    " GROUP BY asset_key, dagster_event_type)"
)
_OUTDATED_TAG: LiteralString = "event_id NOT IN (SELECT id FROM dagster.event_logs WHERE asset_key IS NOT NULL)"
_OUTDATED_CHECK: LiteralString = (
    "id NOT IN (SELECT max(id) FROM dagster.asset_check_executions GROUP BY asset_key, check_name)"
)
_EMPTY_RUN: LiteralString = (
    "status IN ('SUCCESS', 'FAILURE', 'CANCELED')"
    " AND run_id NOT IN (SELECT run_id FROM dagster.event_logs WHERE run_id IS NOT NULL)"
)


@dataclass(frozen=True)
class Expired:
    """What was dropped from one table. `days` are partitions; rows of these are as many as the planner knew of.

    `in_use` are the partitions that somebody read all the time, such as a backup: they are left for the next time.
    """

    table: str
    rows: int
    days: int
    seconds: float
    in_use: int = 0


def expiry(now: datetime, retention_days: int) -> datetime:
    """The midnight, UTC, before which everything is dropped: at least `retention_days` whole days are kept."""
    return (now - timedelta(days=retention_days)).replace(hour=0, minute=0, second=0, microsecond=0)


def drop_expired(
    connection: Connection, before: datetime, batch: int = BATCH, wait: Callable[[float], None] = time.sleep
) -> Iterator[Expired]:
    """Drop all that is older than a midnight, table by table. Safe to repeat and to interrupt."""
    for table in BY_DAY:
        began = perf_counter()
        days = drop_days(connection, table, before, wait)
        dropped = [day.rows for day in days if day.dropped]
        seconds = perf_counter() - began
        yield Expired(table, sum(dropped), len(dropped), seconds, in_use=len(days) - len(dropped))
    began = perf_counter()
    # Before the blocks that say how old they are.
    confirmations = sql.SQL(_OLD_CONFIRMATIONS).format(before=sql.Literal(before), batch=sql.Literal(batch))
    yield Expired("confirmations", _repeat(connection, confirmations, batch), 0, perf_counter() - began)
    for table, column in BY_ROW.items():
        began = perf_counter()
        yield Expired(table, _delete(connection, (table,), column, before, batch), 0, perf_counter() - began)
    for online in ONLINE:
        began = perf_counter()
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [online]).fetchone()
        if row and row[0]:
            # Feast keeps this time without a zone, in UTC.
            rows = _delete(connection, tuple(online.split(".")), "event_ts", before.replace(tzinfo=None), batch)
            yield Expired(online, rows, 0, perf_counter() - began)


def drop_run_records(
    connection: Connection, before: datetime, details_before: datetime, batch: int = BATCH
) -> Iterator[Expired]:
    """Drop what Dagster recorded of runs before these moments, in batches. Does nothing without Dagster's tables.

    What each asset and each check came to last stays whatever its age, and so does the run that made it: sensors ask
    whether there is a champion. Runs that have not ended stay.
    """
    for table, column, condition, moment in (
        ("event_logs", "timestamp", _DETAIL, details_before),
        ("event_logs", "timestamp", _OUTDATED_EVENT, before),
        ("asset_event_tags", "event_timestamp", _OUTDATED_TAG, before),
        ("asset_check_executions", "create_timestamp", _OUTDATED_CHECK, before),
        ("runs", "update_timestamp", _EMPTY_RUN, before),
    ):
        began = perf_counter()
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"dagster.{table}"]).fetchone()
        if row and row[0]:
            # Dagster keeps its times without a zone, in UTC.
            naive = moment.replace(tzinfo=None)
            rows = _delete(connection, ("dagster", table), column, naive, batch, condition)
            yield Expired(f"dagster.{table}", rows, 0, perf_counter() - began)


def _delete(
    connection: Connection,
    table: tuple[str, ...],
    column: str,
    before: datetime,
    batch: int,
    condition: LiteralString = "true",
) -> int:
    statement = sql.SQL(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY("
        "SELECT ctid FROM {table} WHERE {column} < {before} AND {condition} ORDER BY {column} LIMIT {batch}))"
    ).format(
        table=sql.Identifier(*table),
        column=sql.Identifier(column),
        before=sql.Literal(before),
        batch=sql.Literal(batch),
        condition=sql.SQL(condition),
    )
    return _repeat(connection, statement, batch)


def _repeat(connection: Connection, statement: sql.Composed, batch: int) -> int:
    total = 0
    while True:
        # In autocommit, so each batch is a transaction of its own.
        deleted = connection.execute(statement).rowcount
        total += deleted
        if deleted < batch:
            return total
