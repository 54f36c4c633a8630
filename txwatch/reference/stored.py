"""What can be read from outside, as pages: `docs/reference/tables.md` and `docs/reference/metrics.md`."""

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from txwatch.metric_families import FAMILIES
from txwatch.store.schema import metadata

ROWS = {
    "address_activity": "what an address did in a window, by the publication that wrote it",
    "address_windows": "a window whose address buckets are written",
    "alert_deliveries": "an alert on its way to a channel",
    "alert_updates": "what became known of an alert later; insert-only",
    "alerts": "an alert, as it was raised; insert-only",
    "api_keys": "a key of the API, with its scopes; kept is its SHA-256",
    "block_completeness": "how much of a block a source had told before",
    "blocks": "a block that was announced or read",
    "channel_requests": "a request to a channel, counted against its limits",
    "channels": "a chat or another channel, and how it stands",
    "drift_reports": "a drift report with its decision",
    "feed_gaps": "a time in which a source was not heard, and what became of it",
    "feed_sources": "a source that is followed",
    "feedback": "a person's verdict on an alert",
    "health_checks": "what a health check found, where that changed",
    "history_start": "where the history begins; one row",
    "ingest_lease": "which worker follows the feed; one row",
    "label_changes": "when labels or the watch list changed last; one row",
    "labels": "whom an address belongs to, as one source says",
    "network_baseline": "the network as of a window, for the transactions two windows later; insert-only",
    "quarantined_messages": "a message that broke the protocol, with the reason",
    "recent_scores": "how a model scored in a window, which its threshold follows; insert-only",
    "telegram_bot": "whether the bot hears updates; one row",
    "transaction_features": "a transaction's features; rewritten by window",
    "transaction_scores": "a transaction's score by a model in a context; insert-only",
    "transactions": "an unconfirmed transaction, by the first moment at which it was seen",
    "watch_list": "an address whose transactions alert",
    "whale_moves": "a whale, kept for good",
}
"""What a row is. The comments of the other tables say it."""


HEAD = """\
# Tables

In PostgreSQL, in the schema `public`. Amounts are satoshi, times are UTC. Beside them are the schemas of Dagster, Feast
and MLflow. Read what you like; nobody but txwatch should write.
"""


def tables_page() -> str:
    """`docs/reference/tables.md`."""
    tables = sorted(metadata.tables.values(), key=lambda table: table.name)
    return "\n".join([HEAD, *map(_table, tables)])


def _table(table: Table) -> str:
    rows = "\n".join(map(_column, table.columns))
    parts = table.dialect_options["postgresql"]["partition_by"]
    partitioned = f" Partitioned by day, {parts.lower()}." if parts else ""
    return f"""\
## {table.name}

A row: {"; ".join(filter(None, [ROWS.get(table.name), table.comment]))}.{partitioned}

| column | type | |
| --- | --- | --- |
{rows}
"""


def _column(column: Column[object]) -> str:
    kind = column.type.compile(dialect=postgresql.dialect()).lower()  # type: ignore[no-untyped-call]
    parts = ["key" if column.primary_key else "", "may be NULL" if column.nullable else "", column.comment or ""]
    return f"| `{column.name}` | {kind} | {'; '.join(part for part in parts if part)} |"


ENDINGS = {"counter": "_total", "info": "_info"}
"""What Prometheus's format adds to a name."""


def metrics_page() -> str:
    """`docs/reference/metrics.md`."""
    rows = "\n".join(
        f"| `{name}{ENDINGS.get(family.type, '')}` | {family.type} "
        f"| {', '.join(f'`{label}`' for label in family.labels)} | {family.text} |"
        for name, family in FAMILIES.items()
    )
    return f"""\
# Metrics

`GET /metrics` of the API, for Prometheus. Each scrape reads the database; while it is away only `txwatch_database_up`,
`txwatch_disk_free_ratio`, `txwatch_stream_clients` and the counts of requests are told. A histogram has `_bucket`,
`_count` and `_sum`. The rules that alert on them are in `deploy/monitoring/rules.yml`, and the
[runbook](../operations.md#what-to-do-when) says what to do. The process's own metrics (`process_*`, `python_info`) come
from the library.

| metric | type | labels | |
| --- | --- | --- | --- |
{rows}
"""
