"""What every measurement needs: a database, the processes to measure, and a way to say what was measured."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from txwatch.store.migrate import migrate

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Measurement:
    """One figure. `baseline` is what it should beat, `limit` what it cannot pass, in the same unit, if there are any.

    `at_least` and `at_most` are the goal. `why` says in a few words what was compared.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    limit: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is met; without one, always."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def goal(self) -> str:
        """The goal in signs, empty without one."""
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}"
        return f"≤ {number(self.at_most)}" if self.at_most is not None else ""

    @property
    def over_baseline(self) -> str:
        """The ratio to the baseline, empty without one."""
        return f"{self.value / self.baseline:.2f}" if self.baseline else ""

    @property
    def over_limit(self) -> str:
        """The ratio to the limit, empty without one."""
        return f"{self.value / self.limit:.2f}" if self.limit else ""


def number(value: float) -> str:
    """A figure for people: four digits, and never an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


@dataclass
class Bench:
    """One run of the measurements, on one embedded server, in one temporary folder."""

    server_url: str
    folder: Path
    quick: bool = False
    days: int = 30
    """Of the measurement `month`."""
    baseline_checkout: Path | None = None
    """A checkout with an environment of its own, for what can only be compared with another version of the program."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def database(self) -> str:
        """The URL of a new, migrated database."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))
        migrate(url)
        return url

    def size(self, full: int) -> int:
        """How many of something to measure with: a twentieth in a quick run."""
        return max(1, full // 20) if self.quick else full

    @contextmanager
    def process(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Python process of this project for the block, ended by SIGTERM. Its output goes to a log in the folder."""
        log = (self.folder / f"process-{next(self._numbers)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | environment,
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)

    @contextmanager
    def ingestion(self, database_url: str, count: int, rate: float) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process that follows a feed of `count` transactions at `rate` a second, 0 for as fast as it can."""
        with self.process("-m", "benchmarks.feed", str(count), str(rate)) as feed:
            assert feed.stdout is not None
            port = int(feed.stdout.readline())
            with self.process(
                "-m",
                "txwatch",
                "ingest",
                DATABASE_URL=database_url,
                TXWATCH_STREAM_URL=f"ws://127.0.0.1:{port}",
                TXWATCH_HOME=str(self.folder / "ingest"),
            ) as worker:
                yield worker
