"""The gaps: every stretch in which a source was not heard, from its beginning to its recovery."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from txwatch.store.database import Connection, read_rows, scalar, statement

NO_WORKER = "no worker was running"
"""The cause of a gap between two workers."""
ALL_SOURCES = "all sources"
"""The source of a gap in which what all of them told could not be kept."""


@dataclass(frozen=True)
class FeedGap:
    """A stretch in which a source was not heard, from the last message before it to the first after it. UTC.

    `ended_at` is None while it lasts; `ending` says why it ended. For a source that was asked for what was missed,
    `recovered` counts the transactions that it told, and `tip` is the hash of its highest block at the end.
    """

    started_at: datetime
    ended_at: datetime | None
    cause: str
    ending: str | None = None
    source: str = "blockchain.info"
    recovered: int = 0
    tip: str | None = None

    @property
    def key(self) -> tuple[str, datetime]:
        """By which a gap is told from others: its source, and when it began."""
        return self.source, self.started_at


def record_gaps(connection: Connection, gaps: Sequence[FeedGap]) -> None:
    """Insert gaps, or the end of an open one with the same start."""
    connection.cursor().executemany(statement("store", "record_gap"), [asdict(gap) for gap in gaps])


def close_open_gaps(connection: Connection, source: str, ended_at: datetime, ending: str) -> None:
    """End a source's open gaps: another worker hears it since `ended_at`."""
    connection.execute(
        "UPDATE feed_gaps SET ended_at = greatest(started_at, %(at)s), ending = %(ending)s, state = 'ended'"
        " WHERE state = 'open' AND source = %(source)s",
        {"source": source, "at": ended_at, "ending": ending},
    )


def open_gaps(connection: Connection, source: str) -> list[FeedGap]:
    """The gaps of a source that last, the oldest first."""
    query = (
        "SELECT started_at, ended_at, cause, ending, source FROM feed_gaps"
        " WHERE state = 'open' AND source = %s ORDER BY started_at"
    )
    return read_rows(connection, FeedGap, query, [source])


def absent_until(connection: Connection, source: str, since: datetime) -> datetime | None:
    """The end of a source's last gap between two workers that began at or after a moment, None without one."""
    query = "SELECT max(ended_at) FROM feed_gaps WHERE source = %s AND cause = %s AND started_at >= %s"
    until: datetime | None = scalar(connection, query, [source, NO_WORKER, since])
    return until


def narrow_gaps_between_workers(
    connection: Connection, sources: Sequence[str], heard_from: datetime, heard_until: datetime
) -> None:
    """Cut a stretch in which a superseded worker heard these sources off the gaps that its successor has recorded."""
    stretch = {"cause": NO_WORKER, "sources": list(sources), "from": heard_from, "until": heard_until}
    connection.execute(
        "DELETE FROM feed_gaps WHERE cause = %(cause)s AND source = ANY(%(sources)s) AND state = 'ended'"
        " AND started_at >= %(from)s AND ended_at <= %(until)s",
        stretch,
    )
    connection.execute(
        "UPDATE feed_gaps SET started_at = %(until)s WHERE cause = %(cause)s AND source = ANY(%(sources)s)"
        " AND state = 'ended' AND started_at >= %(from)s AND started_at < %(until)s",
        stretch,
    )


@dataclass(frozen=True)
class Gap:
    """A gap that was not recovered yet. `ended_at` is None while it lasts; `tip` as of a FeedGap."""

    id: int
    started_at: datetime
    ended_at: datetime | None
    tip: str | None = None

    def ended_at_or(self, now: datetime) -> datetime:
        """Its end, or now while it lasts."""
        return self.ended_at or now

    def touches(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether it meets the stretch from `start` until `end`; None is without bound."""
        return (end is None or self.started_at < end) and (
            start is None or self.ended_at is None or self.ended_at >= start
        )

    def clamp(self, moment: datetime, now: datetime) -> datetime:
        """The moment of the gap that is nearest to this one."""
        return min(max(moment, self.started_at), self.ended_at_or(now))


def unrecovered_gaps(connection: Connection) -> list[Gap]:
    """The gaps that are open or wait for recovery, the oldest first."""
    query = "SELECT id, started_at, ended_at, tip FROM feed_gaps WHERE state IN ('open', 'ended') ORDER BY started_at"
    return read_rows(connection, Gap, query)


def count_recovered(connection: Connection, gap_ids: Sequence[int]) -> None:
    """Count one recovered transaction for each time that a gap is named."""
    connection.cursor().executemany(
        "UPDATE feed_gaps SET recovered = recovered + %s WHERE id = %s",
        [(times, gap_id) for gap_id, times in sorted(Counter(gap_ids).items())],
    )


def note_searched(connection: Connection, gap_ids: Sequence[int], block_hash: str) -> None:
    """Note that a block was searched for each of these gaps, in the database transaction that lands what was found."""
    connection.cursor().executemany(
        "INSERT INTO gap_blocks (gap_id, block_hash) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [(gap_id, block_hash) for gap_id in gap_ids],
    )


def searched(connection: Connection, gap_id: int) -> set[str]:
    """The hashes of the blocks that were searched for what a gap misses."""
    return {h for (h,) in connection.execute("SELECT block_hash FROM gap_blocks WHERE gap_id = %s", [gap_id])}


def close_gap(connection: Connection, gap_id: int, state: Literal["recovered", "lost"]) -> None:
    """Close an ended gap: all blocks that it needs were read, or some cannot be had any more."""
    connection.execute("UPDATE feed_gaps SET state = %s WHERE id = %s AND state = 'ended'", [state, gap_id])
    connection.execute("DELETE FROM gap_blocks WHERE gap_id = %s", [gap_id])
