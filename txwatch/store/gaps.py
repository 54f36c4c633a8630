"""The ledger of gaps: every stretch in which the feed was not heard, from its first moment to its recovery."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg.rows import class_row

from txwatch.store.database import Connection
from txwatch.store.sql import statement

NO_WORKER = "no worker was running"
"""The cause of a gap between two workers."""


@dataclass(frozen=True)
class FeedGap:
    """A stretch in which the feed was not heard, from the last message before it to the first one after it. UTC.

    `ended_at` is None while it lasts; `ending` says how it ended.
    """

    started_at: datetime
    ended_at: datetime | None
    cause: str
    ending: str | None = None


def record_gaps(connection: Connection, gaps: Sequence[FeedGap]) -> None:
    """Enter gaps, or the end of one that was entered while it lasted. A gap is known by its start; its end stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            statement(__file__, "record_gap"),
            [
                {
                    "started_at": gap.started_at,
                    "ended_at": gap.ended_at,
                    # A server's closing words can hold U+0000, which no text column takes.
                    "cause": gap.cause.replace("\0", "\ufffd"),
                    "ending": gap.ending,
                }
                for gap in gaps
            ],
        )
    _blocks_are_read_again(connection, [gap.started_at for gap in gaps if gap.ended_at is not None])


def close_open_gaps(connection: Connection, ended_at: datetime, ending: str) -> None:
    """End what is still open: another worker hears the feed since `ended_at`."""
    closed = connection.execute(
        "UPDATE feed_gaps SET ended_at = greatest(started_at, %(at)s), ending = %(ending)s, state = 'ended'"
        " WHERE state = 'open' RETURNING started_at",
        {"at": ended_at, "ending": ending},
    ).fetchall()
    _blocks_are_read_again(connection, [started_at for (started_at,) in closed])


def _blocks_are_read_again(connection: Connection, gap_starts: Sequence[datetime]) -> None:
    """Blocks that were read before the gap was known have not been searched for what it misses."""
    if gap_starts:
        connection.execute("UPDATE blocks SET fetched_at = NULL WHERE seen_at >= %s", [min(gap_starts)])


def narrow_gaps_between_workers(connection: Connection, heard_from: datetime, heard_until: datetime) -> None:
    """Take a stretch that the worker before did hear off the gap that the one after it has recorded.

    A worker that takes the lease cannot know whether the holder before it is dead, so it records the gap. One that is
    alive lands what it has when it learns that it was superseded, and calls this.
    """
    stretch = {"cause": NO_WORKER, "from": heard_from, "until": heard_until}
    connection.execute(
        "DELETE FROM feed_gaps WHERE cause = %(cause)s AND state = 'ended'"
        " AND started_at >= %(from)s AND ended_at <= %(until)s",
        stretch,
    )
    connection.execute(
        "UPDATE feed_gaps SET started_at = %(until)s WHERE cause = %(cause)s AND state = 'ended'"
        " AND started_at >= %(from)s AND started_at < %(until)s",
        stretch,
    )


@dataclass(frozen=True)
class Gap:
    """A gap of the ledger that was not recovered yet. `ended_at` is None while it lasts."""

    id: int
    started_at: datetime
    ended_at: datetime | None

    def ended_at_or(self, now: datetime) -> datetime:
        """Its end, or now while it lasts."""
        return self.ended_at or now

    def touches(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether it has a moment in the stretch from `start` until `end`; None is without bound."""
        return (end is None or self.started_at < end) and (
            start is None or self.ended_at is None or self.ended_at >= start
        )

    def clamp(self, moment: datetime, now: datetime) -> datetime:
        """The moment of the gap that is nearest to this one."""
        return min(max(moment, self.started_at), self.ended_at_or(now))


def unrecovered_gaps(connection: Connection) -> list[Gap]:
    """The gaps that are open or wait for recovery, the oldest first."""
    with connection.cursor(row_factory=class_row(Gap)) as cursor:
        return cursor.execute(
            "SELECT id, started_at, ended_at FROM feed_gaps WHERE state IN ('open', 'ended') ORDER BY started_at"
        ).fetchall()


def count_recovered(connection: Connection, gap_ids: Sequence[int]) -> None:
    """Add to the transactions recovered of these gaps: one for each time that a gap is named."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE feed_gaps SET recovered = recovered + %s WHERE id = %s",
            [(times, gap_id) for gap_id, times in sorted(Counter(gap_ids).items())],
        )


def settle_gap(connection: Connection, gap_id: int, state: Literal["recovered", "lost"]) -> None:
    """All blocks that a gap needs have been read, or some of them cannot be had any more."""
    connection.execute("UPDATE feed_gaps SET state = %s WHERE id = %s AND state = 'ended'", [state, gap_id])
