"""The ledger of gaps: every stretch in which the feed was not heard, from its first moment to its recovery."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
                    "cause": gap.cause,
                    "ending": gap.ending,
                }
                for gap in gaps
            ],
        )


def close_open_gaps(connection: Connection, ended_at: datetime, ending: str) -> None:
    """End what is still open: another worker hears the feed since `ended_at`."""
    connection.execute(
        "UPDATE feed_gaps SET ended_at = greatest(started_at, %(at)s), ending = %(ending)s, state = 'ended'"
        " WHERE state = 'open'",
        {"at": ended_at, "ending": ending},
    )


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
class EndedGap:
    """A gap that has ended and waits for its recovery."""

    id: int
    started_at: datetime
    ended_at: datetime


def ended_gaps(connection: Connection, start: datetime | None = None, end: datetime | None = None) -> list[EndedGap]:
    """The gaps that wait for recovery, oldest first; with `start` and `end` those that touch that stretch."""
    with connection.cursor(row_factory=class_row(EndedGap)) as cursor:
        return cursor.execute(
            "SELECT id, started_at, ended_at FROM feed_gaps WHERE state = 'ended'"
            " AND ended_at >= coalesce(%(start)s, '-infinity') AND started_at < coalesce(%(end)s, 'infinity')"
            " ORDER BY started_at",
            {"start": start, "end": end},
        ).fetchall()
