"""What the system has done and how well, from the database: the numbers of `txwatch status`."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row

from txwatch.store.database import Connection, database_now
from txwatch.store.lease import Lease, read_lease
from txwatch.store.sql import statement


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
        row = cursor.execute(statement(__file__, "status"), moments).fetchone()
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
