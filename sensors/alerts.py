"""Asks for the runs that raise alerts from fresh scores, and for those that deliver what still waits."""

from datetime import datetime

import dagster as dg

from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.events import drain
from sensors.scoring import SCORED, range_requests, since
from txwatch.alerts.waiting import delivery_needed
from txwatch.clock import utc_now
from txwatch.windows import parse_window_key

ALERTS = dg.AssetKey("alerts")
DELIVERY_BUCKET_SECONDS = 30


def alert_sensor(first_window: datetime) -> dg.SensorDefinition:
    """The sensor for partitions that begin at `first_window`."""

    @dg.sensor(
        name="alert_sensor",
        job_name="raise_alerts",
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Drains fresh transaction_scores and asks for one run for each contiguous range of windows, which"
        " raises their alerts and delivers them. The cursor is the last event drained.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        scored, cursor = drain(context.instance, SCORED, int(context.cursor or 0))
        if not scored:
            return dg.SkipReason("No window was scored since the last tick.")
        windows = since(first_window, map(parse_window_key, scored))
        return dg.SensorResult(run_requests=range_requests(windows, [ALERTS]), cursor=str(cursor))

    return sensor


@dg.sensor(
    job_name="deliver_alerts",
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a delivery run when alerts still wait that may be sent now.",
)
def delivery_sensor(
    context: dg.SensorEvaluationContext, database: DatabaseResource, telegram: TelegramResource
) -> dg.SensorResult | dg.SkipReason:
    if not telegram.chats:
        return dg.SkipReason(
            "No chat is set up (TELEGRAM_BOT_TOKEN, TELEGRAM_CHAT_ID); alerts stay visible in the terminal."
        )
    now = utc_now()
    with database.connect() as connection:
        need = delivery_needed(connection, telegram.chats, now)
    if need is None:
        return dg.SkipReason("Nothing waits that may be sent now.")
    context.log.info(f"Asking for a delivery: {need}.")
    # A constant key would never run again; one by half-minute asks again while nothing came of the last.
    run_key = f"deliver-{int(now.timestamp()) // DELIVERY_BUCKET_SECONDS}"
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=run_key, tags={"txwatch/reason": need})])
