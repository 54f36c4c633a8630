"""The arithmetic of windows: five minutes, UTC, named by their start. Everything that speaks of a window uses this."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

WINDOW = timedelta(minutes=5)
CONTEXT_LAG = 2
"""A transaction in window W sees the context as of window W - 2: one window of slack to seal and publish it."""
KEY_FORMAT = "%Y-%m-%d-%H:%M"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window_start(moment: datetime) -> datetime:
    """The start of the window that holds a moment. Windows are half-open: a start belongs to its own window."""
    return moment - (moment - _EPOCH) % WINDOW


def context_window(start: datetime) -> datetime:
    """The start of the window that the context of a transaction in the window at `start` is as of."""
    return start - CONTEXT_LAG * WINDOW


def window_range(start: datetime, end: datetime) -> list[datetime]:
    """Starts of the windows that begin at or after `start` and end at or before `end`; `start` is a window's start."""
    return [start + i * WINDOW for i in range(max(0, (end - start) // WINDOW))]


def contiguous(starts: Iterable[datetime], limit: int | None = None) -> list[tuple[datetime, datetime]]:
    """Group window starts, in any order, into unbroken runs (first start, last start) of at most `limit` windows."""
    runs: list[tuple[datetime, datetime]] = []
    for start in sorted(set(starts)):
        first, last = runs[-1] if runs else (start, start)
        if runs and start - last == WINDOW and (limit is None or start - first < limit * WINDOW):
            runs[-1] = (first, start)
        else:
            runs.append((start, start))
    return runs


def window_key(start: datetime) -> str:
    """The partition key of a window, such as 2024-03-14-09:35."""
    return start.astimezone(UTC).strftime(KEY_FORMAT)


def parse_window_key(key: str) -> datetime:
    """The start of the window with this partition key. Raises ValueError."""
    return datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC)
