"""The jobs: one shift of ingestion, the scoring of windows, alerts and their delivery."""

import os
from datetime import timedelta

import dagster as dg
from structlog.contextvars import bind_contextvars

from blockchain_assets import keys
from blockchain_assets.platform.instance import INGEST_POOL
from blockchain_assets.platform.log_beside import log_beside
from blockchain_assets.windows import own_steps
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from resources.telegram import TelegramResource
from txwatch.alerts.samples import raise_sample
from txwatch.clock import utc_now
from txwatch.waiting import run_until_signalled

INGEST_PRIORITY = "100"
DELIVERY_PRIORITY = "50"
DELIVERY_PATIENCE = timedelta(minutes=1)
LONGEST_SHIFT_SECONDS = 2 * 60 * 60
"""A shift is an hour. A run whose machine has died looks started for ever, and without this limit keeps its slot."""
NO_RETRIES = {"dagster/max_retries": "0"}
"""For jobs whose sensor asks again by itself: with Dagster's retry as well, they would run twice."""


@dg.op(pool=INGEST_POOL, description="Follows the feed: lands, scores and alerts until the shift is over.")
def follow_feed(context: dg.OpExecutionContext, ingestion: IngestionResource) -> None:
    bind_contextvars(run_id=context.run_id)
    lane = ingestion.lane(holder=f"run {context.run_id[:8]} process {os.getpid()}")
    with log_beside(context.instance):
        shift = run_until_signalled(lane.run)
    context.log.info(f"Epoch {shift.epoch}: landed {shift.landed} transactions; {shift.reason}.")


@dg.job(
    name="ingest_shift",
    tags={"dagster/priority": INGEST_PRIORITY, "dagster/max_runtime": str(LONGEST_SHIFT_SECONDS), **NO_RETRIES},
    description="One shift of the ingest worker. The keeper sensor launches the next before this one ends.",
)
def ingest_shift_job() -> None:
    follow_feed()


score_windows_job = dg.define_asset_job(
    "score_windows",
    selection=own_steps(*keys.BEFORE_SCORES, *keys.SCORES),
    description="All steps of a sealed window in one process: baseline, activity, features, scores and alerts.",
)

raise_alerts_job = dg.define_asset_job(
    "raise_alerts",
    selection=own_steps(keys.ALERTS),
    tags={"dagster/priority": DELIVERY_PRIORITY},
    description="Raises the alerts of windows that were scored by hand or by a backfill, and delivers what waits.",
)


@dg.op(pool="delivery", description="Sends waiting alerts, within Telegram's limits.")
def deliver_pending(context: dg.OpExecutionContext, database: DatabaseResource, telegram: TelegramResource) -> None:
    outcomes = telegram.deliver(database.url, DELIVERY_PATIENCE)
    context.log.info(f"Requests to Telegram: {dict(outcomes)}")


@dg.job(
    name="deliver_alerts",
    tags={"dagster/priority": DELIVERY_PRIORITY, **NO_RETRIES},
    description="Delivers alerts that still wait: after a failure, a pause that Telegram asked for, or a mute.",
)
def deliver_alerts_job() -> None:
    deliver_pending()


def sample_job(count: int) -> dg.JobDefinition:
    @dg.op(pool="delivery", description=f"Asks about {count} transactions of yesterday that raised no alert.")
    def ask_for_sample(context: dg.OpExecutionContext, database: DatabaseResource, telegram: TelegramResource) -> None:
        with database.connect() as connection:
            asked = raise_sample(connection, count, telegram.chats, utc_now())
        context.add_output_metadata({"asked_about": len(asked)})
        telegram.deliver(database.url, DELIVERY_PATIENCE)

    @dg.job(
        name="daily_sample",
        tags=NO_RETRIES,
        description="Asks people about unusual transactions of yesterday that raised no alert: what was missed?",
    )
    def daily_sample() -> None:
        ask_for_sample()

    return daily_sample
