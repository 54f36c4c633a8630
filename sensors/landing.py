"""Seals windows: reports a materialization of `transactions` for each window that is complete.

A sealed window into which something landed late is reported again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import dagster as dg

from blockchain_assets.transactions import sealed_events
from resources.database import DatabaseResource
from sensors.events import running_sensor
from txwatch.clock import WINDOW, contiguous, parse_window_key, window_key, window_range, window_start
from txwatch.ingest.sealing import WindowSummary, sealable_windows, sealed_through, summarize_windows
from txwatch.store.database import Connection, database_now
from txwatch.store.lease import LateWindow, forget_late_windows, read_late_windows, read_lease

WINDOWS_PER_TICK = 288
"""A day's. Dagster ends a tick after 60 s, and these take much less."""


@dataclass(frozen=True)
class Cursor:
    """The next window to seal, and the ids of the notes on late windows that the last tick reported.

    A note is deleted one tick after it was reported: events are written after a tick, so a crash in between must not
    lose it.
    """

    next_window: datetime
    reported: frozenset[int] = frozenset()

    @staticmethod
    def parse(text: str | None, first_window: datetime) -> "Cursor":
        if not text:
            return Cursor(first_window)
        key, _, ids = text.partition("|")
        next_window = parse_window_key(key) + WINDOW
        return Cursor(max(next_window, first_window), frozenset(int(i) for i in ids.split(",") if i))

    def within(self, now: datetime) -> "Cursor":
        """The cursor with the window of now as the next, if later ones were sealed while the clock was ahead."""
        return self if self.next_window <= now + WINDOW else replace(self, next_window=window_start(now))

    def __str__(self) -> str:
        ids = ",".join(str(i) for i in sorted(self.reported))
        return window_key(self.next_window - WINDOW) + (f"|{ids}" if ids else "")


def windows_to_repeat(late: Iterable[LateWindow], first_window: datetime, next_window: datetime) -> set[datetime]:
    """The windows of these notes that were sealed before. The others are reported when they are sealed."""
    return {note.window_start for note in late if first_window <= note.window_start < next_window}


def landing_sensor(first_window: datetime) -> dg.SensorDefinition:
    """The sensor for partitions that begin at `first_window`. Dagster would not refuse earlier ones."""

    @running_sensor(
        name="landing_sensor",
        minimum_interval_seconds=1,
        description="Reports each five-minute window of transactions once the watermark of the ingest worker has"
        " passed its end, and again when something was recovered into it.",
    )
    def sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
        cursor = Cursor.parse(context.cursor, first_window)
        with database.connect() as connection:
            forget_late_windows(connection, sorted(cursor.reported))
            late = read_late_windows(connection, WINDOWS_PER_TICK)
            now = database_now(connection)
            cursor = cursor.within(now)
            through = sealed_through(read_lease(connection), now)
            sealed = sealable_windows(cursor.next_window, through, WINDOWS_PER_TICK)
            if not sealed and not late:
                return dg.SkipReason(f"The window {window_key(cursor.next_window)} is still open.")
            repeated = windows_to_repeat(late, first_window, cursor.next_window)
            summaries = [s for windows in (repeated, sealed) for s in _summarize(connection, windows)]
        after = Cursor(sealed[-1] + WINDOW if sealed else cursor.next_window, frozenset(note.id for note in late))
        return dg.SensorResult(
            asset_events=[event for summary in summaries for event in sealed_events(summary)], cursor=str(after)
        )

    return sensor


def _summarize(connection: Connection, windows: Iterable[datetime]) -> list[WindowSummary]:
    ranges = [window_range(first, last + WINDOW) for first, last in contiguous(windows)]
    return [summary for unbroken in ranges for summary in summarize_windows(connection, unbroken)]
