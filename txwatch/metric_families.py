"""The metrics that `/metrics` shows, by name. `docs/reference/metrics.md` is written from this table."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Family:
    """What is said of a metric: its type, its text, and the names of its labels."""

    type: Literal["counter", "gauge", "histogram", "info"]
    text: str
    labels: tuple[str, ...] = ()


FAMILIES = {
    "txwatch_http_requests": Family("counter", "Requests answered.", ("method", "route", "status")),
    "txwatch_http_request_duration_seconds": Family(
        "histogram",
        "Time from a request to the end of its answer, in seconds. Streams are left out.",
        ("method", "route"),
    ),
    "txwatch_database_up": Family("gauge", "Whether the database answers: 1 or 0."),
    "txwatch_disk_free_ratio": Family("gauge", "Free share of the disk that holds the state."),
    "txwatch_stream_clients": Family("gauge", "Clients of the live stream."),
    "txwatch_ingest_up": Family("gauge", "Whether a worker follows the feed: 1 or 0."),
    "txwatch_ingest_epoch": Family("gauge", "Epoch of the lease of the feed; grows with each worker."),
    "txwatch_ingest_heartbeat_timestamp_seconds": Family(
        "gauge", "When the worker was last heard, in seconds since 1970."
    ),
    "txwatch_feed_messages": Family(
        "counter", "Messages of the feed, and those of them that brought nothing new.", ("kind",)
    ),
    "txwatch_feed_lag_seconds": Family("gauge", "How far what is committed is behind, in seconds."),
    "txwatch_transactions_last_minute": Family("gauge", "Transactions seen in the last minute."),
    "txwatch_feed_completeness_ratio": Family(
        "gauge", "Share of the last day's mined transactions that came before their block."
    ),
    "txwatch_quarantined_messages": Family("gauge", "Messages in quarantine."),
    "txwatch_feed_gaps": Family("gauge", "Gaps in the ledger, by state.", ("state",)),
    "txwatch_feed_gap_seconds": Family("counter", "Seconds in which the feed was not heard."),
    "txwatch_source_up": Family("gauge", "Whether a source is connected: 1 or 0.", ("source",)),
    "txwatch_source_heard_timestamp_seconds": Family("gauge", "When it was last heard, since 1970.", ("source",)),
    "txwatch_source_transactions_last_hour": Family(
        "gauge", "Transactions that it told in the last hour.", ("source",)
    ),
    "txwatch_source_share_ratio": Family("gauge", "Share of what all sources told in the last hour.", ("source",)),
    "txwatch_source_completeness_ratio": Family(
        "gauge", "Share of a day's mined transactions told before.", ("source",)
    ),
    "txwatch_source_policy_ratio": Family("gauge", "Share of them that it leaves out by its own policy.", ("source",)),
    "txwatch_landing_latency_seconds": Family(
        "histogram", "From the receipt of a live transaction to its durable row, in seconds."
    ),
    "txwatch_scoring_latency_seconds": Family(
        "histogram", "From the receipt of a transaction to its score, in seconds, by lane.", ("lane",)
    ),
    "txwatch_newest_window_timestamp_seconds": Family(
        "gauge", "Start of the newest window that a stage has computed, in seconds since 1970.", ("stage",)
    ),
    "txwatch_unusual_transactions_last_hour": Family(
        "gauge", "Transactions of the last hour that were found unusual, by lane.", ("lane",)
    ),
    "txwatch_model": Family("info", "The model that scores.", ("version",)),
    "txwatch_score_threshold": Family("gauge", "The score from which on a transaction is unusual."),
    "txwatch_alerts_last_hour": Family("gauge", "Alerts raised in the last hour, by severity.", ("severity",)),
    "txwatch_alert_deliveries": Family("gauge", "Deliveries by state.", ("state",)),
    "txwatch_oldest_pending_delivery_age_seconds": Family(
        "gauge", "Age of the oldest alert that waits to be delivered, in seconds; 0 when none waits."
    ),
    "txwatch_bot_heard_timestamp_seconds": Family("gauge", "When the bot last got updates, since 1970."),
    "txwatch_drift_ratio": Family("gauge", "Share of the watched features that have drifted."),
    "txwatch_drift_detected": Family("gauge", "Whether the newest report found drift: 1 or 0."),
    "txwatch_drift_report_timestamp_seconds": Family(
        "gauge", "When the newest drift report was made, in seconds since 1970."
    ),
    "txwatch_dagster_runs": Family("gauge", "Runs of Dagster that are kept, by outcome.", ("job", "status")),
    "txwatch_health_condition": Family(
        "gauge",
        "What a health check found last: 1 for wrong, 0 for well or unknown. Chats are named by their places in the"
        " settings, not by their ids.",
        ("check",),
    ),
}
"""Every metric of txwatch. The process's own (`process_*`, `python_info`) are the library's."""
