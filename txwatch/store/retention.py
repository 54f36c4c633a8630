"""Retention: partitions by day, and dropping old data.

A day's partition is made with its first row: captures and bulk loads reach years back. The two large derived tables are
partitioned by day and dropped a day at a time, in milliseconds, with nothing to vacuum. `transactions` has the txid as
primary key, which makes landing idempotent whatever the time of a second sighting; a partitioned table could not, and
with 90 days would land at a tenth of the rate. Its rows and those of smaller tables are deleted in batches by their
index on time, each in a short transaction, so that landing never waits; autovacuum comes every night, and what a day
leaves the next ones take.

What was alerted, sent, labelled or answered stays: it is the record of what the program did.
"""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import LiteralString

from psycopg import sql
from psycopg.errors import LockNotAvailable

from txwatch.clock import EPOCH
from txwatch.store.database import Connection, scalar, statement, table_exists
from txwatch.store.locks import Lock, wait_for

LOCK_MS = 500
"""Milliseconds that a drop waits for its lock: readers of the table wait behind it."""
ATTEMPTS = 6
PAUSE_SECONDS = 10.0
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ExpiredDay:
    """A partition to drop, with the planner's number of its rows. `dropped` is false if it was in use."""

    name: str
    rows: int
    dropped: bool


def ensure_days(connection: Connection, table: str, start: datetime, end: datetime) -> None:
    """Make the missing partitions for rows of [start, end). Safe to repeat."""
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (first + i * _DAY for i in range(-(-(end - first) // _DAY))):
        name = partition_name(table, day)
        if table_exists(connection, name):
            continue
        with connection.transaction():
            wait_for(connection, Lock.DAYS)
            if table_exists(connection, name):
                continue
            parent, child = sql.Identifier(table), sql.Identifier(name)
            # Attaching blocks neither readers nor writers of the table; CREATE TABLE ... PARTITION OF blocks both.
            connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
            connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    parent, child, sql.Literal(day.isoformat()), sql.Literal((day + _DAY).isoformat())
                )
            )


def drop_days(
    connection: Connection, table: str, before: datetime, wait: Callable[[float], None] = time.sleep
) -> list[ExpiredDay]:
    """Drop the partitions of days that end by a moment, oldest first, up to the first that stays in use.

    A drop waits for readers of the table, such as a backup, and new readers wait behind it: so it waits for LOCK_MS
    only, and is tried ATTEMPTS times, PAUSE_SECONDS apart. `wait` sleeps.
    """
    days: list[ExpiredDay] = []
    partitions = connection.execute(
        "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = %s::regclass ORDER BY relname",
        [table],
    )
    for name, rows in partitions.fetchall():
        if datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC) + _DAY <= before:
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
    """The name of the partition that holds a day, UTC; it ends with the day."""
    return f"{table}_{day:%Y%m%d}"


BY_DAY = ("transaction_features", "address_activity")
OF_BLOCKS = {"confirmations": "txid", "block_completeness": "source"}
"""Tables that are as old as their blocks, with the column that with `block_hash` is their key."""
BY_ROW = {
    "transaction_scores": "seen_at",
    "recent_scores": "as_of",
    "scored_windows": "window_start",
    "campaign_transactions": "seen_at",
    "transactions": "seen_at",
    "sightings": "seen_at",
    "removals": "removed_at",
    "network_baseline": "window_start",
    "address_windows": "window_start",
    "quarantined_messages": "received_at",
    "followed_coins": "seen_at",
    "feed_gaps": "ended_at",
    "usd_prices": "noted_at",
    "blocks": "seen_at",
    "alert_stream": "queued_at",
}
"""The other tables that grow, with the column of a row's age. Derived rows go first."""
UNLESS_ALERTED: dict[str, tuple[str, LiteralString]] = {"rule_matches": ("seen_at", "outcome <> 'alert'")}
"""Tables of what matched, with the column of a row's age and what a row is that did not alert: the others stay."""
WHILE_UNCONFIRMED = {"spends": "seen_at", "contested_outpoints": "seen_at"}
"""Tables that are of use only while a transaction may be unconfirmed."""
MEMPOOL_DAYS = 14
"""Days after which Bitcoin Core drops an unconfirmed transaction: DEFAULT_MEMPOOL_EXPIRY_HOURS, 336 (kernel)."""
ONLINE = ("feast.txwatch_network_context", "feast.txwatch_transaction_features")
"""Feast's online tables in Postgres, by `event_ts`. In Redis, keys expire by themselves."""
DETAILS_DAYS = 14
"""Days that logs of Dagster's runs are kept; the runs, and what they materialized, are kept as long as the data."""
CONFIRMING_DAYS = 7
"""Days with transactions without which no day is over for the retention, whatever the clock says."""
BATCH = 20_000
"""Rows that one short transaction deletes."""
_OUTDATED_EVENT = (
    "id NOT IN (SELECT max(id) FROM dagster.event_logs WHERE asset_key IS NOT NULL"
    " GROUP BY asset_key, dagster_event_type)"
)
_EVENT_DROPPED = "event_id NOT IN (SELECT id FROM dagster.event_logs WHERE asset_key IS NOT NULL)"
_OUTDATED_CHECK = "id NOT IN (SELECT max(id) FROM dagster.asset_check_executions GROUP BY asset_key, check_name)"
_EMPTY_RUN = (
    "status IN ('SUCCESS', 'FAILURE', 'CANCELED')"
    " AND run_id NOT IN (SELECT run_id FROM dagster.event_logs WHERE run_id IS NOT NULL)"
)


@dataclass(frozen=True)
class Expired:
    """What was dropped from one table. `days` counts partitions, whose `rows` are as many as the planner knew of.

    `in_use` counts the partitions that could not be locked, such as during a backup: they are left for the next time.
    """

    table: str
    rows: int
    days: int
    seconds: float
    in_use: int = 0


def expiry(now: datetime, retention_days: int) -> datetime:
    """The midnight, UTC, before which everything is dropped: at least `retention_days` whole days are kept."""
    return (now - timedelta(days=retention_days)).replace(hour=0, minute=0, second=0, microsecond=0)


def confirmed_now(connection: Connection, now: datetime, retention_days: int) -> datetime:
    """The present, as far as transactions confirm the clock: one that is a year ahead must not drop everything.

    The newest CONFIRMING_DAYS days with transactions, `retention_days` of them if those are fewer, count as the last
    days that there were. So after an outage what is old goes some days later, and with fewer days nothing does.
    """
    days = min(CONFIRMING_DAYS, retention_days)
    oldest: datetime | None = scalar(connection, statement("store", "nth_newest_day"), {"now": now, "days": days})
    return EPOCH if oldest is None else min(now, oldest + days * _DAY)


def drop_expired(
    connection: Connection,
    before: datetime,
    batch: int = BATCH,
    wait: Callable[[float], None] = time.sleep,
    mempool_before: datetime | None = None,
    archived: Collection[str] = (),
) -> Iterator[Expired]:
    """Drop all that is older than a midnight, table by table. Safe to repeat and to interrupt.

    Of the tables that are `archived` nothing goes here: their days go when the archive has them.

    What is of use only while a transaction may be unconfirmed is dropped before another midnight, `mempool_before`.
    """
    for table in (table for table in BY_DAY if table not in archived):
        began = perf_counter()
        days = drop_days(connection, table, before, wait)
        dropped = [day.rows for day in days if day.dropped]
        seconds = perf_counter() - began
        yield Expired(table, sum(dropped), len(dropped), seconds, in_use=len(days) - len(dropped))
    # Before the blocks that say how old they are.
    for table, column in OF_BLOCKS.items():
        of_blocks = sql.SQL(
            "DELETE FROM {table} WHERE ({column}, block_hash) IN ("
            "SELECT {column}, block_hash FROM {table} JOIN blocks ON hash = block_hash"
            " WHERE blocks.seen_at < {before} LIMIT {batch})"
        ).format(
            table=sql.Identifier(table),
            column=sql.Identifier(column),
            before=sql.Literal(before),
            batch=sql.Literal(batch),
        )
        yield _delete_in_batches(connection, table, of_blocks, batch)
    for table, column in BY_ROW.items():
        if table not in archived:
            yield from _delete(connection, table, column, before, batch)
    for table, (column, condition) in UNLESS_ALERTED.items():
        yield from _delete(connection, table, column, before, batch, condition)
    for table, column in WHILE_UNCONFIRMED.items():
        yield from _delete(connection, table, column, mempool_before or before, batch)
    for table in ONLINE:
        # Feast keeps this time without a zone, in UTC.
        yield from _delete(connection, table, "event_ts", before.replace(tzinfo=None), batch)


def drop_run_records(
    connection: Connection, before: datetime, details_before: datetime, batch: int = BATCH
) -> Iterator[Expired]:
    """Drop what Dagster recorded of runs before these moments, in batches. Does nothing without Dagster's tables.

    The last event of each asset and check stays, and so does the run that made it: sensors ask whether there is a
    champion. Runs that have not ended stay.
    """
    for table, column, moment, condition in (
        ("event_logs", "timestamp", details_before, "asset_key IS NULL"),
        ("event_logs", "timestamp", before, _OUTDATED_EVENT),
        ("asset_event_tags", "event_timestamp", before, _EVENT_DROPPED),
        ("asset_check_executions", "create_timestamp", before, _OUTDATED_CHECK),
        ("runs", "update_timestamp", before, _EMPTY_RUN),
    ):
        # Dagster keeps its times without a zone, in UTC.
        yield from _delete(connection, f"dagster.{table}", column, moment.replace(tzinfo=None), batch, condition)


def _delete(
    connection: Connection, table: str, column: str, before: datetime, batch: int, condition: LiteralString = "true"
) -> Iterator[Expired]:
    """Delete the rows before a moment, if there is such a table."""
    statement = sql.SQL(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY("
        "SELECT ctid FROM {table} WHERE {column} < {before} AND {condition} ORDER BY {column} LIMIT {batch}))"
    ).format(
        table=sql.Identifier(*table.split(".")),
        column=sql.Identifier(column),
        before=sql.Literal(before),
        batch=sql.Literal(batch),
        condition=sql.SQL(condition),
    )
    if table_exists(connection, table):
        yield _delete_in_batches(connection, table, statement, batch)


def _delete_in_batches(connection: Connection, table: str, statement: sql.Composed, batch: int) -> Expired:
    """Run a statement that deletes a batch, each time in a transaction of its own, until nothing is left."""
    began, rows, deleted = perf_counter(), 0, batch
    while deleted >= batch:
        deleted = connection.execute(statement).rowcount
        rows += deleted
    return Expired(table, rows, 0, perf_counter() - began)
