"""The lease of the feed: which ingest worker lands, and up to which moment; and the windows that rows reach late.

The holder of the highest epoch lands. Any worker may take the lease; the holder before it learns of that at its next
heartbeat and leaves. For a moment both may land, which is idempotent. Every `now` is by the database's clock
(`database_now`): clocks of machines differ, and are sometimes set back. Whatever lands rows late (a spool, recovery, a
replay) notes their windows in the same database transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from txwatch.store.database import Connection, read_rows, scalar

HEARTBEAT = timedelta(seconds=1)
STALE_AFTER = timedelta(seconds=10)
"""Time without a heartbeat after which a holder is taken for dead."""


class LeaseLostError(Exception):
    """Another worker has taken the lease."""


@dataclass(frozen=True)
class Lease:
    """The lease row; times UTC. Everything seen before `committed_through`, by the worker's clock, is committed.

    `heard_at` is when a transaction that a source told was landed last.
    """

    epoch: int
    holder: str
    acquired_at: datetime
    heartbeat_at: datetime
    expires_at: datetime | None
    released_at: datetime | None
    committed_through: datetime | None
    heard_at: datetime | None
    received: int
    duplicates: int
    ignored: int

    def is_stale(self, now: datetime) -> bool:
        """Whether nobody is landing: the holder left, or gave no heartbeat for STALE_AFTER.

        A heartbeat in the future is from before the clock was set back: a live holder would have renewed it.
        """
        return self.released_at is not None or abs(now - self.heartbeat_at) > STALE_AFTER

    @property
    def watermark(self) -> datetime | None:
        """The moment before which all is committed, if known; at most the heartbeat: a worker's clock may be ahead."""
        return None if self.committed_through is None else min(self.committed_through, self.heartbeat_at)


_SELECT: LiteralString = (
    "SELECT epoch, holder, acquired_at, heartbeat_at, expires_at, released_at, committed_through, heard_at,"
    " received, duplicates, ignored FROM ingest_lease"
)


def read_lease(connection: Connection) -> Lease | None:
    """The lease, or None when no worker ever ran."""
    return next(iter(read_rows(connection, Lease, _SELECT)), None)


def lock_lease(connection: Connection) -> Lease | None:
    """The lease, locked until the end of the database transaction, so that the watermark cannot advance meanwhile."""
    return next(iter(read_rows(connection, Lease, f"{_SELECT} FOR NO KEY UPDATE")), None)


def take_lease(connection: Connection, holder: str, now: datetime, expires_at: datetime | None) -> int:
    """Take the lease with the next epoch, which is returned. Takes a watermark back that was ahead of the heartbeat."""
    epoch = scalar(
        connection,
        "INSERT INTO ingest_lease AS lease (id, epoch, holder, acquired_at, heartbeat_at, expires_at)"
        " VALUES (1, 1, %(holder)s, %(now)s, %(now)s, %(expires_at)s)"
        " ON CONFLICT (id) DO UPDATE SET epoch = lease.epoch + 1, holder = excluded.holder,"
        " acquired_at = excluded.acquired_at, heartbeat_at = excluded.heartbeat_at,"
        # Not least(), which takes what is not known for the other: a holder that committed nothing has no watermark.
        " committed_through = CASE WHEN lease.committed_through > lease.heartbeat_at THEN lease.heartbeat_at"
        " ELSE lease.committed_through END,"
        " expires_at = excluded.expires_at, released_at = NULL RETURNING epoch",
        {"holder": holder, "now": now, "expires_at": expires_at},
    )
    return int(epoch)


def renew_lease(
    connection: Connection, epoch: int, now: datetime, committed_through: datetime, *, heard: bool = False
) -> None:
    """Write heartbeat and watermark, and whether a transaction was `heard` now. Raises LeaseLostError."""
    renewed = connection.execute(
        "UPDATE ingest_lease SET heartbeat_at = %(now)s,"
        " committed_through = greatest(committed_through, %(committed_through)s),"
        # What lies in the future is from before the clock was set back, and counts from then on.
        " heard_at = CASE WHEN %(heard)s OR heard_at > %(now)s THEN %(now)s ELSE heard_at END,"
        " acquired_at = least(acquired_at, %(now)s) WHERE epoch = %(epoch)s",
        {"epoch": epoch, "now": now, "committed_through": committed_through, "heard": heard},
    )
    if renewed.rowcount == 0:
        raise LeaseLostError(f"epoch {epoch} was superseded")


def count_messages(connection: Connection, *, received: int, duplicates: int, ignored: int) -> None:
    """Add to the counts of messages, which go on over all epochs."""
    connection.execute(
        "UPDATE ingest_lease SET received = received + %s, duplicates = duplicates + %s, ignored = ignored + %s",
        [received, duplicates, ignored],
    )


def release_lease(connection: Connection, epoch: int, now: datetime) -> None:
    """Note that the holder of this epoch has left, unless another has taken over."""
    connection.execute("UPDATE ingest_lease SET released_at = %s WHERE epoch = %s", [now, epoch])


@dataclass(frozen=True)
class LateWindow:
    """One note of a late window; several can name one window."""

    id: int
    window_start: datetime


def note_late_windows(connection: Connection, windows: Iterable[datetime], reason: str) -> None:
    """Note windows that are to be reported again."""
    connection.cursor().executemany(
        "INSERT INTO late_windows (window_start, reason) VALUES (%s, %s)",
        [(window, reason) for window in sorted(set(windows))],
    )


def read_late_windows(connection: Connection, limit: int) -> list[LateWindow]:
    """The oldest notes."""
    return read_rows(connection, LateWindow, "SELECT id, window_start FROM late_windows ORDER BY id LIMIT %s", [limit])


def forget_late_windows(connection: Connection, ids: Sequence[int]) -> None:
    """Remove the notes that were reported, by id: a note that is committed meanwhile can have a lower one."""
    connection.execute("DELETE FROM late_windows WHERE id = ANY(%s)", [list(ids)])
