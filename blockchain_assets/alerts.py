"""`alerts`: raised from the scores of each window, and delivered to Telegram."""

from dataclasses import asdict
from datetime import timedelta

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import window_asset, window_span
from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from txwatch.alerts.store import AlertCounts, count_alerts, raise_window_alerts
from txwatch.clock import utc_now, window_key, window_range

PATIENCE = timedelta(seconds=5)
"""Messages that Telegram's limits delay for longer are left to the delivery job, so that the next window can go on."""


def alerts_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        key=keys.ALERTS,
        group_name="detection",
        code_version="2",
        deps=[keys.TRANSACTION_SCORES],
        kinds={"postgres", "telegram"},
        # Several runs at once are safe: the database orders what they insert, and each chat has a lock.
        pool=None,
        description="A row is one alert: a transaction that a detector, a rule or the champion finds unusual, with all"
        " its reasons, or something about the system itself.\n\nInsert-only, delivered once, and kept for good."
        " Alerts of recovered or backfilled windows are late, and go into a digest.",
    )
    def alerts(
        context: dg.AssetExecutionContext, database: DatabaseResource, telegram: TelegramResource
    ) -> dg.MaterializeResult:
        start, end = window_span(context)
        with database.connect() as connection:
            raised = raise_window_alerts(connection, start, end, telegram.chats, utc_now())
        outcomes = telegram.deliver(database.url, PATIENCE)
        context.log.info(f"Requests to Telegram: {dict(outcomes)}")
        with database.connect() as connection:
            counts = count_alerts(connection, start, end)
        for window in window_range(start, end):
            figures = asdict(counts.get(window, AlertCounts()))
            context.add_asset_metadata(figures, partition_key=window_key(window))
        return dg.MaterializeResult(metadata={"raised_by_this_run": len(raised)})

    return alerts
