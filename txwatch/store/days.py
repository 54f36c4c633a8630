"""Tables that are partitioned by day, so that old days are dropped in a moment, whatever they hold.

A day's partition is made when the first row of it is written: captures and bulk loads reach years back, and nobody
can say beforehand which days will be needed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql
from psycopg.errors import LockNotAvailable

from txwatch.store.database import Connection
from txwatch.store.locks import Lock, wait_for

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
