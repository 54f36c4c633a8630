"""The lease of the feed, which says which ingest worker lands and how far it has come; and windows written to late.

The holder with the highest epoch is the one that lands. Everyone may take the lease; the holder before learns of it
at its next heartbeat and leaves. Landing is idempotent, so the moment in which both land does no harm.

Every `now` here is by the database's clock (`database_now`): machines' own clocks differ, and are set back at times.

What is landed late is landed by a worker that had spooled it, by recovery from blocks, or by a replay. Whoever lands
it notes its windows in the same database transaction, so that none is forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from txwatch.store.database import Connection

HEARTBEAT = timedelta(seconds=1)
STALE_AFTER = timedelta(seconds=10)
"""A holder that was not heard for this long is taken for dead."""


class LeaseLostError(Exception):
    """Another worker has taken the lease."""


@dataclass(frozen=True)
class Lease:
    """The lease row; times UTC. Everything seen before `committed_through`, by the worker's clock, is committed."""

    epoch: int
    holder: str
    acquired_at: datetime
    heartbeat_at: datetime
    expires_at: datetime | None
    released_at: datetime | None
    committed_through: datetime | None
    received: int
    duplicates: int
    ignored: int

    def is_stale(self, now: datetime) -> bool:
        """Whether nobody is landing: the holder left, or was not heard for STALE_AFTER.

        A heartbeat in the future is from before the clock was set back: a holder at work would have renewed it.
        """
        return self.released_at is not None or abs(now - self.heartbeat_at) > STALE_AFTER

    @property
    def watermark(self) -> datetime | None:
        """The moment before which all is committed that the feed had sent, None if no holder has said so yet.

        A worker whose clock is ahead would say more than can be: no later than it was heard.
        """
        return None if self.committed_through is None else min(self.committed_through, self.heartbeat_at)


_SELECT: LiteralString = (
    "SELECT epoch, holder, acquired_at, heartbeat_at, expires_at, released_at, committed_through,"
    " received, duplicates, ignored FROM ingest_lease"
)


def read_lease(connection: Connection) -> Lease | None:
    """The lease, or None when no worker ever ran."""
    with connection.cursor(row_factory=class_row(Lease)) as cursor:
        return cursor.execute(_SELECT).fetchone()


def lock_lease(connection: Connection) -> Lease | None:
    """The lease, locked until the end of the database transaction, so that no watermark can pass meanwhile."""
    with connection.cursor(row_factory=class_row(Lease)) as cursor:
        return cursor.execute(f"{_SELECT} FOR NO KEY UPDATE").fetchone()


def take_lease(connection: Connection, holder: str, now: datetime, expires_at: datetime | None) -> int:
    """Take the lease with the next epoch, and return that. What the holder before said too much is taken back."""
    row = connection.execute(
        "INSERT INTO ingest_lease AS lease (id, epoch, holder, acquired_at, heartbeat_at, expires_at)"
        " VALUES (1, 1, %(holder)s, %(now)s, %(now)s, %(expires_at)s)"
        " ON CONFLICT (id) DO UPDATE SET epoch = lease.epoch + 1, holder = excluded.holder,"
        " acquired_at = excluded.acquired_at, heartbeat_at = excluded.heartbeat_at,"
        " committed_through = least(lease.committed_through, lease.heartbeat_at),"
        " expires_at = excluded.expires_at, released_at = NULL RETURNING epoch",
        {"holder": holder, "now": now, "expires_at": expires_at},
    ).fetchone()
    return int(row[0]) if row else 0


def renew_lease(connection: Connection, epoch: int, now: datetime, committed_through: datetime) -> None:
    """Heartbeat and watermark. Raises LeaseLostError."""
    renewed = connection.execute(
        "UPDATE ingest_lease SET heartbeat_at = %(now)s,"
        " committed_through = greatest(committed_through, %(committed_through)s) WHERE epoch = %(epoch)s",
        {"epoch": epoch, "now": now, "committed_through": committed_through},
    )
    if renewed.rowcount == 0:
        raise LeaseLostError(f"epoch {epoch} was superseded")


def count_messages(connection: Connection, *, received: int, duplicates: int, ignored: int) -> None:
    """Add to the counts over all epochs."""
    connection.execute(
        "UPDATE ingest_lease SET received = received + %s, duplicates = duplicates + %s, ignored = ignored + %s",
        [received, duplicates, ignored],
    )


def release_lease(connection: Connection, epoch: int, now: datetime) -> None:
    """Say that the holder of this epoch has left. Does nothing when another one has taken over."""
    connection.execute("UPDATE ingest_lease SET released_at = %s WHERE epoch = %s", [now, epoch])


@dataclass(frozen=True)
class LateWindow:
    """One note. Several can name one window."""

    id: int
    window_start: datetime


def note_late_windows(connection: Connection, windows: Iterable[datetime], reason: str) -> None:
    """Ask for these windows to be reported again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO late_windows (window_start, reason) VALUES (%s, %s)",
            [(window, reason) for window in sorted(set(windows))],
        )


def read_late_windows(connection: Connection, limit: int) -> list[LateWindow]:
    """The oldest notes."""
    with connection.cursor(row_factory=class_row(LateWindow)) as cursor:
        return cursor.execute("SELECT id, window_start FROM late_windows ORDER BY id LIMIT %s", [limit]).fetchall()


def forget_late_windows(connection: Connection, ids: Sequence[int]) -> None:
    """Remove notes that were reported. By id: a note that is committed meanwhile can have a lower one."""
    connection.execute("DELETE FROM late_windows WHERE id = ANY(%s)", [list(ids)])
