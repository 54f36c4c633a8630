"""When another ingest worker is needed. Decided on the lease alone, never on the status of runs: a run whose process
died can look started for ever, and must not hold ingestion up."""

from datetime import datetime, timedelta

from txwatch.store.lease import Lease

HANDOVER_LEAD = timedelta(seconds=60)
"""A successor is asked for this long before a shift ends: a run needs some seconds to start."""


def shift_needed(lease: Lease | None, now: datetime) -> str | None:
    """Why a new shift should start, in words for the operator, or None when the feed is being followed.

    `now` is by the database's clock, as the lease is.
    """
    if lease is None:
        return "no worker has run yet"
    if lease.released_at is not None:
        return f"{lease.holder} has left"
    if lease.is_stale(now):
        if lease.heartbeat_at > now:
            ahead = (lease.heartbeat_at - now).total_seconds()
            return f"{lease.holder} was heard {ahead:.0f} s in the future: the database's clock was set back"
        return f"{lease.holder} was not heard for {(now - lease.heartbeat_at).total_seconds():.0f} s"
    if lease.expires_at is not None and lease.expires_at < now:
        return f"the shift of {lease.holder} is over since {(now - lease.expires_at).total_seconds():.0f} s"
    if lease.expires_at is not None and lease.expires_at - now < HANDOVER_LEAD:
        return f"the shift of {lease.holder} ends in {(lease.expires_at - now).total_seconds():.0f} s"
    return None
