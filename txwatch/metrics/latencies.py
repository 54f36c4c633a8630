"""Latency histograms of what is stored: each row is counted once, in the scrape after it was committed.

A histogram grows only, from the start of this process. Rows are taken up to a moment before which nothing can be
committed any more, so that none is missed: for transactions the watermark, for scores some seconds ago.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client.core import HistogramMetricFamily

from txwatch.queries.overview import Overview
from txwatch.store.database import Connection
from txwatch.store.sql import statement

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Seconds."""
SETTLED = timedelta(seconds=15)
"""A score is committed within so long of the time that is written into it."""
MOST_AT_ONCE = timedelta(minutes=30)
"""After a pause in scraping the oldest rows are skipped: a scrape must not read a day."""


@dataclass
class Cumulative:
    """One series of a histogram."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, bins: Sequence[int], total: float) -> None:
        """Add counts by bucket, not cumulative."""
        self.counts = [a + b for a, b in zip(self.counts, bins, strict=True)]
        self.total += total

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: each with those below it."""
        shown, running = [], 0
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], self.counts, strict=True):
            running += count
            shown.append((bound, float(running)))
        return shown


class Latencies:
    """The histograms, with how far each has read."""

    def __init__(self) -> None:
        self._landing = Cumulative()
        self._scoring: dict[str, Cumulative] = {}
        self._landed_through: datetime | None = None
        self._scored_through: datetime | None = None

    def read(self, connection: Connection, overview: Overview) -> None:
        """Count what was committed since the last reading. The first reading only notes where it begins."""
        watermark = overview.lease.committed_through if overview.lease else None
        if watermark is not None:
            since = max(self._landed_through or watermark, watermark - MOST_AT_ONCE)
            if since < watermark:
                rows = connection.execute(
                    statement(__file__, "landing_latencies"), {"since": since, "until": watermark, "bounds": [*BUCKETS]}
                )
                for bucket, count, total in rows:
                    self._landing.add(_single(bucket, count), total)
            self._landed_through = max(self._landed_through or watermark, watermark)
        until = overview.at - SETTLED
        since = max(self._scored_through or until, until - MOST_AT_ONCE)
        if since < until:
            rows = connection.execute(
                statement(__file__, "scoring_latencies"), {"since": since, "until": until, "bounds": [*BUCKETS]}
            )
            for lane, bucket, count, total in rows:
                self._scoring.setdefault(lane, Cumulative()).add(_single(bucket, count), total)
        self._scored_through = until

    def families(self) -> Iterable[HistogramMetricFamily]:
        """As they are shown."""
        landing = HistogramMetricFamily(
            "txwatch_landing_latency_seconds", "From the receipt of a live transaction to its durable row, in seconds."
        )
        landing.add_metric([], self._landing.buckets(), self._landing.total)
        yield landing
        scoring = HistogramMetricFamily(
            "txwatch_scoring_latency_seconds",
            "From the receipt of a transaction to its score, in seconds, by lane.",
            labels=["lane"],
        )
        for lane in ("live", "window", "shadow"):
            series = self._scoring.get(lane, Cumulative())
            scoring.add_metric([lane], series.buckets(), series.total)
        yield scoring


def _single(bucket: int, count: int) -> list[int]:
    bins = [0] * (len(BUCKETS) + 1)
    bins[bucket] = count
    return bins
