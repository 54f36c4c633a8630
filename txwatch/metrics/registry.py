"""All metrics of one API process in a registry of its own."""

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from psycopg_pool import ConnectionPool

from txwatch.metrics.requests import RequestMetrics
from txwatch.metrics.system import SystemCollector
from txwatch.store.database import Connection


def metrics_registry(
    pool: ConnectionPool[Connection], home: Path, requests: RequestMetrics, stream_clients: Callable[[], int]
) -> CollectorRegistry:
    """What `/metrics` shows."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    requests.register(registry)
    registry.register(SystemCollector(pool, home, stream_clients))
    return registry
