"""Asks for the runs that raise alerts from scores without alerts, and for those that deliver waiting alerts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

import dagster as dg

from blockchain_assets import keys
from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.events import events_after, range_requests, running_sensor, was_run_lately, windows_since
from txwatch.alerts.deliveries import delivery_needed
from txwatch.clock import utc_now
from txwatch.store.database import database_now

DELIVER_AGAIN = timedelta(seconds=30)


def alert_sensor(first_window: datetime) -> dg.SensorDefinition:

    @running_sensor(
        name="alert_sensor",
        job_name="raise_alerts",
        minimum_interval_seconds=15,
        description="Drains new transaction_scores whose run raised no alerts itself (a backfill, a choice by hand, a"
        " run that failed in between) and asks for one run that does for each contiguous range of windows. The cursor"
        " is the last event drained.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        before = int(context.cursor or 0)
        scored = events_after(context.instance, keys.TRANSACTION_SCORES, before)
        without_alerts, cursor = scored_without_alerts(context.instance, scored, before)
        windows = windows_since(first_window, without_alerts)
        if not windows:
            context.update_cursor(str(cursor))
            return dg.SkipReason("No window was scored since the last tick whose run raises no alerts.")
        return dg.SensorResult(run_requests=range_requests(windows, [keys.ALERTS]), cursor=str(cursor))

    return sensor


def scored_without_alerts(
    instance: dg.DagsterInstance, scored: Sequence[dg.EventLogRecord], cursor: int
) -> tuple[list[str], int]:
    """The keys of windows whose alerts no run has raised, and the last storage id before a run that may still do so."""
    windows: list[str] = []
    run_by_id = cache(instance.get_run_by_id)
    for record in scored:
        run = run_by_id(record.run_id)
        raises = run is not None and keys.ALERTS in (run.asset_selection or ())
        if run is not None and raises and not run.is_finished:
            break
        if record.partition_key is not None and not (run is not None and raises and run.is_success):
            windows.append(record.partition_key)
        cursor = record.storage_id
    return windows, cursor


@running_sensor(
    job_name="deliver_alerts",
    minimum_interval_seconds=15,
    description="Asks for a delivery run when alerts still wait that may be sent now.",
)
def delivery_sensor(
    context: dg.SensorEvaluationContext, database: DatabaseResource, telegram: TelegramResource
) -> dg.SensorResult | dg.SkipReason:
    if not telegram.chats:
        return dg.SkipReason(
            "No chat is set up (TELEGRAM_BOT_TOKEN, TELEGRAM_CHAT_ID); alerts stay visible in the terminal."
        )
    with database.connect() as connection:
        need, now = delivery_needed(connection, telegram.chats, utc_now()), database_now(connection)
    if need is None:
        return dg.SkipReason("Nothing waits that may be sent now.")
    if was_run_lately(context.instance, "deliver_alerts", now, DELIVER_AGAIN):
        return dg.SkipReason(f"A delivery was asked for a moment ago: {need}.")
    context.log.info(f"Asking for a delivery: {need}.")
    return dg.SensorResult(run_requests=[dg.RunRequest(tags={"txwatch/reason": need})])
