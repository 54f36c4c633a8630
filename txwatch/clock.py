"""The UTC clock, and windows: five minutes each, named by their start."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Gives the present moment in UTC. All code that needs the time takes one, so that tests can set it."""


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class MonotoneClock:
    """A clock that always advances: by microseconds while the system's clock is behind, after it was set back."""

    def __init__(self, now: Clock = utc_now) -> None:
        self._now = now
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        self._last = max(self._now(), self._last + timedelta(microseconds=1))
        return self._last


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WINDOW = timedelta(minutes=5)
CONTEXT_LAG = 2
"""Windows. A transaction in window W sees the context as of W - 2, which leaves one window to seal and publish it."""
KEY_FORMAT = "%Y-%m-%d-%H:%M"


def window_start(moment: datetime) -> datetime:
    """The start of the window that holds a moment. Windows are half-open: each holds its own start."""
    return moment - (moment - EPOCH) % WINDOW


def context_window(start: datetime) -> datetime:
    """The window whose context a transaction in the window at `start` sees; both by their start."""
    return start - CONTEXT_LAG * WINDOW


def window_range(start: datetime, end: datetime) -> list[datetime]:
    """Starts of the windows from `start`, itself a window's start, that end at or before `end`."""
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
