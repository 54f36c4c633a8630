"""Seals windows: reports a materialization of `transactions` for each window into which nothing can fall any more."""

from datetime import datetime

import dagster as dg

from blockchain_assets.transactions import sealed_events
from resources.database import DatabaseResource
from txwatch.clock import utc_now
from txwatch.ingest.sealing import sealable_windows, sealed_through, summarize_windows
from txwatch.store.lease import read_lease
from txwatch.windows import WINDOW, parse_window_key, window_key

WINDOWS_PER_TICK = 288
"""A tick is cut at 60 s; a day's windows are reported well within that."""


def landing_sensor(first_window: datetime) -> dg.SensorDefinition:
    """The sensor for partitions that begin at `first_window`. Dagster would accept earlier ones without a word."""

    @dg.sensor(
        name="landing_sensor",
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports each five-minute window of transactions once the watermark of the ingest worker has"
        " passed its end. The cursor is the last window sealed.",
    )
    def sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
        next_window = parse_window_key(context.cursor) + WINDOW if context.cursor else first_window
        with database.connect() as connection:
            through = sealed_through(read_lease(connection), utc_now())
            windows = sealable_windows(max(next_window, first_window), through, WINDOWS_PER_TICK)
            if not windows:
                return dg.SkipReason(f"The window {window_key(next_window)} is still open.")
            summaries = summarize_windows(connection, windows)
        return dg.SensorResult(
            asset_events=[event for summary in summaries for event in sealed_events(summary)],
            cursor=window_key(windows[-1]),
        )

    return sensor
