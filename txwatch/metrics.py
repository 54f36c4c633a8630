"""The metrics of one API process: requests, latency histograms of stored rows, and the state of the system.

A histogram only grows, from the start of this process. Rows are counted up to a moment before which nothing more can be
committed, so that none is missed: for transactions the watermark, for scores some seconds ago.
"""

import asyncio
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from psycopg import OperationalError
from psycopg_pool import ConnectionPool, PoolTimeout

from txwatch.alerts.alert import present_id
from txwatch.alerts.health import CHAT_REFUSES
from txwatch.channels.channel import is_chat
from txwatch.clock import Clock, utc_now
from txwatch.detection.kinds import Severity
from txwatch.metric_families import FAMILIES
from txwatch.queries.models import list_drift
from txwatch.queries.sources import SourceQuality, read_sources
from txwatch.queries.status import Overview, read_overview
from txwatch.store.database import Connection, statement, table_exists

_Metric = TypeVar("_Metric", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily)

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RequestMetrics:
    """Counters of one application. `route` is a route's pattern, `none` for unknown paths."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series
        self.requests = Counter(*_described("txwatch_http_requests"), registry=None)
        self.seconds = Histogram(
            *_described("txwatch_http_request_duration_seconds"), buckets=REQUEST_BUCKETS, registry=None
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. Unknown methods share the label `other`."""
        method = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        self.requests.labels(method, route, str(status)).inc()
        if not route.endswith(("/stream", "/stream/ws")):
            self.seconds.labels(method, route).observe(seconds)


LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Seconds."""
SCORE_COMMITTED_WITHIN = timedelta(seconds=15)
"""A score is committed within this time of the moment that is written into it."""
LONGEST_READING = timedelta(minutes=30)
"""After a longer pause between scrapes the oldest rows are skipped: a scrape must not read a day."""


@dataclass
class LatencySeries:
    """One series of a histogram: the count of each bucket alone, and the sum of all latencies."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS) + 1))
    total: float = 0.0

    def add(self, bucket: int, count: int, total: float) -> None:
        """Add latencies of one bucket, `total` seconds together."""
        self.counts[bucket] += count
        self.total += total

    def buckets(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: the count of each includes those below it."""
        return list(zip([*map(str, LATENCY_BUCKETS), "+Inf"], map(float, accumulate(self.counts)), strict=True))


class Latencies:
    """The latency histograms, and the moments up to which they have counted rows."""

    def __init__(self) -> None:
        self._landing = LatencySeries()
        self._scoring: defaultdict[str, LatencySeries] = defaultdict(LatencySeries)
        self._landed_through: datetime | None = None
        self._scored_through: datetime | None = None

    def read(self, connection: Connection, overview: Overview) -> None:
        """Count the rows that were committed since the last reading. The first reading only notes where to begin."""
        watermark = overview.lease.committed_through if overview.lease else None
        if watermark is not None:
            for landed in _read_buckets(connection, "landing_latencies", self._landed_through, watermark):
                self._landing.add(*landed)
            self._landed_through = max(self._landed_through or watermark, watermark)
        until = overview.at - SCORE_COMMITTED_WITHIN
        for lane, *scored in _read_buckets(connection, "scoring_latencies", self._scored_through, until):
            self._scoring[lane].add(*scored)
        self._scored_through = until

    def families(self) -> Iterable[HistogramMetricFamily]:
        """The histograms as Prometheus reads them."""
        landing = _labelled(HistogramMetricFamily, "txwatch_landing_latency_seconds")
        landing.add_metric([], self._landing.buckets(), self._landing.total)
        yield landing
        scoring = _labelled(HistogramMetricFamily, "txwatch_scoring_latency_seconds")
        for lane in ("live", "window", "shadow"):
            scoring.add_metric([lane], self._scoring[lane].buckets(), self._scoring[lane].total)
        yield scoring


def _read_buckets(
    connection: Connection, query: str, since: datetime | None, until: datetime
) -> Iterable[tuple[Any, ...]]:
    """The rows of a query between two moments, none if `since` is not known yet."""
    since = max(since or until, until - LONGEST_READING)
    span = {"since": since, "until": until, "bounds": [*LATENCY_BUCKETS]}
    return connection.execute(statement("queries", query), span) if since < until else ()


log = structlog.get_logger(__name__)

DELIVERY_STATES = ("pending", "sending", "sent", "digested", "uncertain", "dead")
GAP_STATES = ("open", "ended", "recovered", "lost")


class SystemCollector(Collector):
    """Reads the state at each scrape. While the database is away, gives only what needs no database."""

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        home: Path,
        stream_clients: Callable[[], int],
        chats: Sequence[str] = (),
        clock: Clock = utc_now,
    ) -> None:
        self._pool, self._home, self._stream_clients, self._clock = pool, home, stream_clients, clock
        self._chats = chats
        self._latencies = Latencies()
        self._reading = threading.Lock()  # two scrapes at once would count the same rows twice

    def describe(self) -> Iterable[Metric]:
        """Give nothing, so that registering does not read the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read all metrics."""
        with self._reading:
            found: list[Metric] = []
            up = 1.0
            try:
                with self._pool.connection(timeout=5) as connection:
                    found = list(self._read(connection))
            except (OperationalError, PoolTimeout) as error:
                log.warning("metrics_without_database", error=str(error))
                up = 0.0
        yield _gauge("txwatch_database_up", up)
        yield _gauge("txwatch_stream_clients", self._stream_clients())
        with suppress(OSError):
            disk = shutil.disk_usage(self._home if self._home.exists() else Path.cwd())
            yield _gauge("txwatch_disk_free_ratio", disk.free / disk.total)
        yield from found

    def _read(self, connection: Connection) -> Iterable[Metric]:
        now = self._clock()
        overview = read_overview(connection, now)
        counts: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for metric, label, value in connection.execute(statement("queries", "system_counts"), {"now": now}):
            if value is not None:
                counts[metric][label] = value
        self._latencies.read(connection, overview)
        yield from _feed(overview, counts["gaps"])
        yield from _sources(read_sources(connection, now))
        yield from self._latencies.families()
        yield from _detection(overview, counts)
        yield from _deliveries(overview, counts)
        yield from _drift(connection)
        yield from _dagster(connection)
        places = {present_id(connection, chat): place for place, chat in enumerate(self._chats, 1)}
        yield _by_label("txwatch_health_condition", _without_ids(counts["health"], places))


def _feed(overview: Overview, gaps: dict[str, float]) -> Iterable[Metric]:
    lease, levels = overview.lease, overview.levels
    yield _gauge("txwatch_ingest_up", float(overview.is_followed))
    if lease is not None:
        yield _gauge("txwatch_ingest_epoch", lease.epoch)
        yield _gauge("txwatch_ingest_heartbeat_timestamp_seconds", lease.heartbeat_at.timestamp())
        messages = _labelled(CounterMetricFamily, "txwatch_feed_messages")
        for kind in ("received", "duplicates", "ignored"):
            messages.add_metric([kind], float(getattr(lease, kind)))
        yield messages
    if overview.lag_seconds is not None:
        yield _gauge("txwatch_feed_lag_seconds", overview.lag_seconds)
    yield _gauge("txwatch_transactions_last_minute", levels.transactions_1m)
    if levels.completeness is not None:
        yield _gauge("txwatch_feed_completeness_ratio", levels.completeness)
    yield _gauge("txwatch_quarantined_messages", levels.quarantined)
    yield _by_label("txwatch_feed_gaps", dict.fromkeys(GAP_STATES, 0.0) | gaps)
    seconds = _labelled(CounterMetricFamily, "txwatch_feed_gap_seconds")
    seconds.add_metric([], levels.gap_seconds)
    yield seconds


def _sources(sources: Sequence[SourceQuality]) -> Iterable[Metric]:
    figures: dict[str, Callable[[SourceQuality], float | None]] = {
        "up": lambda one: float(one.connected),
        "heard_timestamp_seconds": lambda one: one.heard_at.timestamp(),
        "transactions_last_hour": lambda one: one.transactions_1h,
        "share_ratio": lambda one: one.share_1h,
        "completeness_ratio": lambda one: one.completeness_1d,
        "policy_ratio": lambda one: one.explained_1d,
    }
    for name, figure in figures.items():
        values = {one.source: value for one in sources if (value := figure(one)) is not None}
        yield _by_label(f"txwatch_source_{name}", values)


def _detection(overview: Overview, counts: defaultdict[str, dict[str, float]]) -> Iterable[Metric]:
    levels = overview.levels
    if levels.newest_scored_window is not None:
        counts["window"]["scores"] = levels.newest_scored_window.timestamp()
    yield _by_label("txwatch_newest_window_timestamp_seconds", counts["window"])
    unusual = dict.fromkeys(("live", "window"), 0.0) | counts["unusual"]
    yield _by_label("txwatch_unusual_transactions_last_hour", unusual)
    if levels.model_version is not None and levels.threshold is not None:
        model = _labelled(InfoMetricFamily, "txwatch_model", [])
        model.add_metric([], {"version": levels.model_version})
        yield model
        yield _gauge("txwatch_score_threshold", levels.threshold)


def _deliveries(overview: Overview, counts: defaultdict[str, dict[str, float]]) -> Iterable[Metric]:
    oldest = overview.levels.oldest_pending_at
    yield _by_label("txwatch_alerts_last_hour", dict.fromkeys(Severity.__members__, 0.0) | counts["alerts"])
    yield _by_label("txwatch_alert_deliveries", dict.fromkeys(DELIVERY_STATES, 0.0) | counts["deliveries"])
    yield _gauge(
        "txwatch_oldest_pending_delivery_age_seconds",
        0.0 if oldest is None else max(0.0, (overview.at - oldest).total_seconds()),
    )
    for heard_at in counts["bot"].values():
        yield _gauge("txwatch_bot_heard_timestamp_seconds", heard_at)


def _drift(connection: Connection) -> Iterable[Metric]:
    for report in list_drift(connection, limit=1).items:
        yield _gauge("txwatch_drift_ratio", report.share)
        yield _gauge("txwatch_drift_detected", float(report.drifted))
        yield _gauge("txwatch_drift_report_timestamp_seconds", report.computed_at.timestamp())


def _without_ids(checks: dict[str, float], places: dict[str, int]) -> dict[str, float]:
    """The checks, with chats named by their places in TELEGRAM_CHAT_ID: whoever reads the metrics needs no key."""
    named: dict[str, float] = {}
    for check, value in checks.items():
        what, separator, chat = check.partition(CHAT_REFUSES)
        if not what and separator and is_chat(chat):
            check = f"{CHAT_REFUSES}chat {places[chat]}" if chat in places else f"{CHAT_REFUSES}another chat"
        named[check] = max(value, named.get(check, 0.0))
    return named


def _dagster(connection: Connection) -> Iterable[Metric]:
    """Outcomes of the runs that Dagster still keeps, where it shares our database."""
    if not table_exists(connection, "dagster.runs"):
        return
    runs = _labelled(GaugeMetricFamily, "txwatch_dagster_runs")
    for job, status, count in connection.execute(
        "SELECT pipeline_name, lower(status), count(*) FROM dagster.runs GROUP BY 1, 2"
    ):
        runs.add_metric([job, status], float(count))
    yield runs


def _described(name: str) -> tuple[str, str, tuple[str, ...]]:
    return name, FAMILIES[name].text, FAMILIES[name].labels


def _labelled(kind: type[_Metric], name: str, labels: Sequence[str] | None = None) -> _Metric:
    """A family without samples."""
    return kind(name, FAMILIES[name].text, labels=FAMILIES[name].labels if labels is None else labels)


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, FAMILIES[name].text, value=value)


def _by_label(name: str, values: dict[str, Any]) -> GaugeMetricFamily:
    family = _labelled(GaugeMetricFamily, name)
    for key, value in sorted(values.items()):
        family.add_metric([key], float(value))
    return family


def metrics_registry(
    pool: ConnectionPool[Connection],
    home: Path,
    requests: RequestMetrics,
    stream_clients: Callable[[], int],
    chats: Sequence[str] = (),
) -> CollectorRegistry:
    """The registry that `/metrics` shows. `chats` are those of the settings."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    for collector in (requests.requests, requests.seconds, SystemCollector(pool, home, stream_clients, chats)):
        registry.register(collector)
    return registry


class Scrapes:
    """The metrics as text. Whoever asks while they are read waits on the loop, and shares the next reading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._one_at_a_time = asyncio.Lock()
        self._begun = 0
        self._text: bytes | None = None

    async def read(self) -> bytes:
        """What Prometheus reads. No reading that began before this call is given."""
        begun = self._begun
        async with self._one_at_a_time:
            if self._begun == begun or self._text is None:
                self._begun, self._text = self._begun + 1, None
                self._text = await asyncio.to_thread(generate_latest, self.registry)
            return self._text
