"""Reports each failed run with its job and its cause: in the log, and as a system alert."""

import dagster as dg
import structlog

from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from txwatch.alerts.conditions import condition_alerts, read_raised
from txwatch.alerts.health import failed_run
from txwatch.alerts.store import insert_alerts
from txwatch.clock import utc_now

WILL_RETRY = "dagster/will_retry"
"""Dagster's own tag of a failed run that it launches again."""

log = structlog.get_logger(__name__)


@dg.run_failure_sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Alerts of failed runs with their cause, once for a job until a run of it succeeds again. A run that is"
    " launched again is only logged.",
)
def run_failure_sensor(
    context: dg.RunFailureSensorContext, database: DatabaseResource, telegram: TelegramResource
) -> None:
    run, now = context.dagster_run, utc_now()
    cause = (context.failure_event.message or "").strip()
    if run.tags.get(WILL_RETRY) == "true":
        log.warning("run_interrupted", run_id=run.run_id, job=run.job_name, cause=cause)
        return
    log.error("run_failed", run_id=run.run_id, job=run.job_name, cause=cause)
    with database.connect() as connection, connection.transaction():
        failed = condition_alerts([failed_run(run.job_name, run.run_id, cause, now)], read_raised(connection), now)
        insert_alerts(connection, failed, telegram.chats)
