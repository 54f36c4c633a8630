"""How the system stands at this moment, in a few cheap look-ups: for the first page, readiness and the metrics.

Nothing here counts a whole table, so that it costs the same after a year.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from txwatch.store.database import Connection, database_now
from txwatch.store.lease import Lease, read_lease
from txwatch.store.sql import statement


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
        levels = cursor.execute(statement(__file__, "levels"), {"now": now}).fetchone()
    if levels is None:
        raise LookupError("the levels gave no row")
    lease = read_lease(connection)
    return Overview(now, lease, lease is not None and not lease.is_stale(database_now(connection)), levels)
