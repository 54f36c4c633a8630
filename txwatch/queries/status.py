"""Read how the system is: its totals, its state at this moment, and its health checks.

Nothing here counts a whole table, so that it costs the same after a year.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import class_row, dict_row

from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, page_of, rows_as
from txwatch.store.database import Connection, database_now, statement
from txwatch.store.lease import Lease, read_lease


@dataclass(frozen=True)
class HealthCheck:
    """What a check found. `state` is well, wrong or unknown; `text` says it in words."""

    id: int
    checked_at: datetime
    name: str
    state: str
    text: str


def latest_health(connection: Connection) -> list[HealthCheck]:
    """The newest result of each check, by name."""
    return rows_as(
        connection,
        HealthCheck,
        "SELECT DISTINCT ON (name) id, checked_at, name, state, text FROM health_checks"
        " ORDER BY name, checked_at DESC, id DESC",
    )


def list_health(
    connection: Connection,
    *,
    name: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Results that were kept, newest first. Raises BadCursorError."""
    rows = rows_as(
        connection,
        HealthCheck,
        "SELECT id, checked_at, name, state, text FROM health_checks WHERE (%(name)s::text IS NULL OR name = %(name)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::timestamptz IS NULL"
        " OR (checked_at <= %(before)s AND (checked_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s)))"
        " ORDER BY checked_at DESC, id DESC LIMIT %(limit)s",
        {"name": name, "state": state, "limit": limit + 1, **bounds(cursor)},
    )
    return page_of(rows, limit, lambda row: Position(row.checked_at, f"{row.id:019d}"))


@dataclass(frozen=True)
class Levels:
    """Counts over the trailing hour unless a name says otherwise. Times UTC, None for never."""

    transactions_1m: int
    transactions_1h: int
    unusual_1h: int
    alerts_1h: int
    newest_seen_at: datetime | None
    newest_scored_window: datetime | None
    model_version: str | None
    threshold: float | None
    quarantined: int
    """In all."""
    open_gaps: int
    gap_seconds: float
    """In all."""
    completeness: float | None
    """Share of what the last day's blocks hold, first seen since the feed is followed, that came before its block."""
    deliveries_pending: int
    deliveries_uncertain: int
    deliveries_dead: int
    oldest_pending_at: datetime | None


@dataclass(frozen=True)
class Overview:
    """The lease of the feed, and how far everything after it has come."""

    at: datetime
    lease: Lease | None
    is_followed: bool
    """Whether a worker follows the feed."""
    levels: Levels

    @property
    def lag_seconds(self) -> float | None:
        """How far what is committed is behind, in seconds. None before any worker ran."""
        through = self.lease.committed_through if self.lease else None
        return None if through is None else max(0.0, (self.at - through).total_seconds())


def read_overview(connection: Connection, now: datetime) -> Overview:
    """How the system stands now."""
    with connection.cursor(row_factory=class_row(Levels)) as cursor:
        levels = cursor.execute(statement("queries", "levels"), {"now": now}).fetchone()
    if levels is None:
        raise LookupError("the levels gave no row")
    lease = read_lease(connection)
    return Overview(now, lease, lease is not None and not lease.is_stale(database_now(connection)), levels)


@dataclass(frozen=True)
class Status:
    """Counts since the beginning, and service levels of live transactions since `since`. Latencies in ms."""

    transactions: int
    live_transactions: int
    quarantined: int
    duplicates: int
    received: int
    gaps: int
    gap_seconds: float
    unrecovered_gap_seconds: float
    recovered: int
    blocks: int
    completeness: float | None
    windows_scored: int
    live_windows_scored: int
    anomalies: int
    landing_latency_ms: dict[str, float | None]
    scoring_latency_ms: dict[str, float | None]
    alerts: dict[str, int]
    """Deliveries of alerts by state."""
    model_version: str | None
    ingest: str
    feed_lag_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return asdict(self)


def read_status(connection: Connection, now: datetime, since: datetime | None = None) -> Status:
    """The status now; latencies over the live transactions seen since `since`, by default the last hour."""
    lease = read_lease(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        moments = {"now": now, "since": since or now - timedelta(hours=1)}
        row = cursor.execute(statement("queries", "status"), moments).fetchone()
    if row is None:
        raise LookupError("the status query gave no row")
    return Status(
        transactions=row["transactions"],
        live_transactions=row["live_transactions"],
        quarantined=row["quarantined"],
        duplicates=lease.duplicates if lease else 0,
        received=lease.received if lease else 0,
        gaps=row["gaps"],
        gap_seconds=row["gap_seconds"],
        unrecovered_gap_seconds=row["unrecovered_gap_seconds"],
        recovered=row["recovered"],
        blocks=row["blocks"],
        completeness=row["completeness"],
        windows_scored=row["windows_scored"],
        live_windows_scored=row["live_windows_scored"],
        anomalies=row["anomalies"],
        landing_latency_ms=_percentiles(row["landing_ms"]),
        scoring_latency_ms=_percentiles(row["scoring_ms"]),
        alerts=row["alerts"],
        model_version=row["model_version"],
        ingest=_ingest(lease, database_now(connection)),
        feed_lag_seconds=(now - lease.committed_through).total_seconds() if lease and lease.committed_through else None,
    )


def _percentiles(values: list[float] | None) -> dict[str, float | None]:
    p50, p99 = values or (None, None)
    return {"p50": p50 and round(p50, 1), "p99": p99 and round(p99, 1)}


def _ingest(lease: Lease | None, now: datetime) -> str:
    if lease is None:
        return "never started"
    return "absent" if lease.is_stale(now) else "landing"
