"""A local feed that plays exactly what a test gives it, when the test says so."""

from datetime import datetime, timedelta
from pathlib import Path

from tests.builders import T0
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import LocalFeed, Playlist

RATE = 100.0
"""Messages of the capture in a second of the feed's clock."""


class SetClock:
    """Stands still until the test moves it."""

    def __init__(self, now: datetime = T0) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class CapturedFeed:
    """A feed that plays the lines of a capture, as many as it is asked to. A block comes once an hour of its clock."""

    def __init__(self, folder: Path, lines: list[bytes]) -> None:
        self.path = folder / "capture.jsonl"
        self.path.write_bytes(b"\n".join(lines))
        self.clock = SetClock()
        self.chain = Chain(seed=1, start=T0, mean_seconds=3_600.0)
        self._played = 0

    def serve(self, port: int = 0) -> LocalFeed:
        """A server of this feed, to be entered. One after another may serve it, each from the first line."""
        playlist = Playlist(capture=self.path, rate=RATE, regime="2024-03", seed=1)
        return LocalFeed(playlist=playlist, chain=self.chain, clock=self.clock, port=port)

    def play(self, count: int) -> None:
        """Let the next lines come."""
        self._played += count
        self.clock.now = T0 + timedelta(seconds=(self._played - 0.5) / RATE)
