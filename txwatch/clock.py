"""The time that a worker stamps on what it sees."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Gives the present moment in UTC. Everything that needs the time takes one, so that tests can set it."""


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class MonotoneClock:
    """A clock that never gives the same moment twice and never goes back, even when the system's clock is stepped.

    After a step back it creeps on by microseconds until the system's clock has caught up.
    """

    def __init__(self, now: Clock = utc_now) -> None:
        self._now = now
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        self._last = max(self._now(), self._last + timedelta(microseconds=1))
        return self._last
