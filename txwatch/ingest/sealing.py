"""When a window is sealed, and when another ingest worker is needed. Every `now` is by the database's clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from txwatch.clock import WINDOW, window_range, window_start
from txwatch.store.database import Connection, read_rows, statement
from txwatch.store.lease import Lease
from txwatch.wire.transaction import Transaction

DEAD_WORKER_GRACE = timedelta(seconds=60)
"""Time after which a window is sealed without a watermark, because no worker is alive; the hole is a gap."""
_LATE_MARGIN = timedelta(seconds=10)


@dataclass(frozen=True)
class WindowSummary:
    """What a window holds. Lags, in ms, are from receipt to durable row, None without live transactions.

    `gaps` counts those that were not recovered, `recovered_rows` rows from blocks.
    """

    window_start: datetime
    rows: int
    live_rows: int
    recovered_rows: int
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    gaps: int
    gap_seconds: float


def sealed_through(lease: Lease | None, now: datetime) -> datetime:
    """The moment before which nothing can land any more: the watermark, or without a live worker a minute ago."""
    watermark = (lease.watermark if lease else None) or datetime.min.replace(tzinfo=UTC)
    if lease is None or lease.is_stale(now):
        return max(watermark, now - DEAD_WORKER_GRACE)
    return watermark


def sealable_windows(next_window: datetime, through: datetime, limit: int) -> list[datetime]:
    """The windows from `next_window` on that end by `through`, the oldest `limit` of them."""
    return window_range(next_window, min(through, next_window + limit * WINDOW))


def late_windows(transactions: Iterable[Transaction], lease: Lease | None, now: datetime) -> set[datetime]:
    """The windows of these transactions that may be sealed before they land. The caller has locked the lease."""
    sealed = now - DEAD_WORKER_GRACE + _LATE_MARGIN
    if lease is not None and lease.watermark is not None:
        sealed = max(sealed, lease.watermark)
    open_from = window_start(sealed)
    return {window_start(tx.seen_at) for tx in transactions if tx.seen_at < open_from}


def summarize_windows(connection: Connection, windows: list[datetime]) -> list[WindowSummary]:
    """What each of these contiguous windows holds."""
    span = {"start": windows[0], "end": windows[-1] + WINDOW}
    return read_rows(connection, WindowSummary, statement("ingest", "window_summaries"), span)


HANDOVER_LEAD = timedelta(seconds=60)
"""Time before the end of a shift at which a successor is asked for: a run needs some seconds to start."""


def shift_needed(lease: Lease | None, now: datetime) -> str | None:
    """Why a new shift should start, in words for the operator, or None when the feed is being followed."""
    if lease is None:
        return "no worker has run yet"
    if lease.released_at is not None:
        return f"{lease.holder} has left"
    if lease.is_stale(now):
        if lease.heartbeat_at > now:
            ahead = (lease.heartbeat_at - now).total_seconds()
            return f"{lease.holder} was heard {ahead:.0f} s in the future: the database's clock was set back"
        return f"{lease.holder} was not heard for {(now - lease.heartbeat_at).total_seconds():.0f} s"
    left = HANDOVER_LEAD if lease.expires_at is None else lease.expires_at - now
    if left < timedelta(0):
        return f"the shift of {lease.holder} is over since {-left.total_seconds():.0f} s"
    return f"the shift of {lease.holder} ends in {left.total_seconds():.0f} s" if left < HANDOVER_LEAD else None
