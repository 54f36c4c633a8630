"""Time that passes by being slept: minutes of delivery take a second, and a slow machine is late by no more."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

ORIGIN = datetime(2024, 3, 14, 12, tzinfo=UTC)


@dataclass
class AcceleratedTime:
    """A clock that shows ORIGIN when the wall's shows `began`. Work takes its time; sleep is `factor` times as fast.

    Several may sleep at once. In seconds, `skipped` is how far the sleep has brought the clock ahead of the wall's.
    """

    factor: float
    began: float
    skipped: float = 0.0

    @classmethod
    def starting_now(cls, factor: float) -> "AcceleratedTime":
        return cls(factor, time.time())

    def clock(self) -> datetime:
        return ORIGIN + timedelta(seconds=self._seconds())

    async def sleep(self, seconds: float) -> None:
        end = self._seconds() + seconds
        await asyncio.sleep(seconds / self.factor)
        self.skipped += max(0.0, end - self._seconds())

    def _seconds(self) -> float:
        return time.time() - self.began + self.skipped
