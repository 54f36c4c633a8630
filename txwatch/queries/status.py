"""Read how the system is: its totals, its state at this moment, and its health checks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from txwatch.queries.paging import DEFAULT_LIMIT, Page, read_page, read_rows
from txwatch.queries.private import OF_A_CHAT
from txwatch.queries.sources import SourceQuality, read_sources
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


def latest_health(connection: Connection, *, private: bool = False) -> list[HealthCheck]:
    """The newest result of each check, by name. Those that name a chat only if they are asked for by `private`."""
    return read_rows(
        connection,
        HealthCheck,
        "SELECT DISTINCT ON (name) id, checked_at, name, state, text FROM health_checks"
        " WHERE %(private)s OR name !~ %(of_a_chat)s ORDER BY name, checked_at DESC, id DESC",
        {"private": private, "of_a_chat": OF_A_CHAT},
    )


def list_health(
    connection: Connection,
    *,
    name: str | None = None,
    state: str | None = None,
    private: bool = False,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Results that were kept, newest first; of what is `private` as `latest_health`. Raises BadCursorError."""
    filters = {"name": name, "state": state, "private": private, "of_a_chat": OF_A_CHAT}
    query = (
        "SELECT id, checked_at, name, state, text FROM health_checks WHERE (%(private)s OR name !~ %(of_a_chat)s)"
        " AND (%(name)s::text IS NULL OR name = %(name)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::timestamptz IS NULL"
        " OR (checked_at <= %(before)s AND (checked_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s)))"
        " ORDER BY checked_at DESC, id DESC LIMIT %(limit)s"
    )
    return read_page(connection, HealthCheck, query, filters, ("checked_at", "id"), cursor, limit)


@dataclass(frozen=True)
class Levels:
    """How far the system has come. Times UTC, None for never.

    Of tables that grow with traffic only the newest rows are counted, so that they cost the same after a year.
    """

    transactions_1m: int
    """Of the last minute."""
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
    (levels,) = read_rows(connection, Levels, statement("queries", "levels"), {"now": now})
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
    sources: list[SourceQuality]
    """Those that were followed within a day."""
    ingest: str
    feed_lag_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        whole: dict[str, Any] = msgspec.to_builtins(self)  # moments as text
        return whole

    def in_words(self) -> list[tuple[str, str]]:
        """Each fact as a person reads it, by its name; those of a source behind the source's name."""
        facts = self.as_dict()
        for source in facts.pop("sources"):
            facts |= {f"{source['source']}: {name}": value for name, value in source.items() if name != "source"}
        return [(name.replace("_", " "), _in_words(value)) for name, value in facts.items()]


def _in_words(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
        case dict():
            return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items()) or "none"
        case _:
            return str(value)


def read_status(connection: Connection, now: datetime, since: datetime | None = None) -> Status:
    """The status now; latencies over the live transactions seen since `since`, by default the last hour."""
    lease = read_lease(connection)
    ingest = "never started"
    if lease is not None:
        ingest = "absent" if lease.is_stale(database_now(connection)) else "landing"
    through = lease.committed_through if lease else None

    def status(landing_ms: list[float] | None, scoring_ms: list[float] | None, **counts: Any) -> Status:
        return Status(
            **counts,
            duplicates=lease.duplicates if lease else 0,
            received=lease.received if lease else 0,
            landing_latency_ms=_percentiles(landing_ms),
            scoring_latency_ms=_percentiles(scoring_ms),
            sources=read_sources(connection, now),
            ingest=ingest,
            feed_lag_seconds=None if through is None else (now - through).total_seconds(),
        )

    moments = {"now": now, "since": since or now - timedelta(hours=1)}
    (found,) = read_rows(connection, status, statement("queries", "status"), moments)
    return found


def _percentiles(values: list[float] | None) -> dict[str, float | None]:
    p50, p99 = values or (None, None)
    return {"p50": p50 and round(p50, 1), "p99": p99 and round(p99, 1)}
