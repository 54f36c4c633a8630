"""What clients ask of the API, and how fast they are answered."""

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RequestMetrics:
    """Counters of one application. `route` is a route's pattern, `none` for paths that are none."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began is of no use, and doubles their number
        self.requests = Counter(
            "txwatch_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=None,
        )
        self.seconds = Histogram(
            "txwatch_http_request_duration_seconds",
            "Time from a request to the end of its answer, in seconds. Streams are left out.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show them in a registry."""
        registry.register(self.requests)
        registry.register(self.seconds)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. A method that is no method of HTTP is not a label of its own."""
        method = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        self.requests.labels(method, route, str(status)).inc()
        if not route.endswith("/stream"):
            self.seconds.labels(method, route).observe(seconds)
