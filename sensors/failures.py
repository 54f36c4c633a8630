"""Says in the log what failed, in one line that names the run, the job and the cause."""

import dagster as dg
import structlog

log = structlog.get_logger(__name__)


@dg.run_failure_sensor(
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports each failed run with its cause.",
)
def run_failure_sensor(context: dg.RunFailureSensorContext) -> None:
    run = context.dagster_run
    log.error("run_failed", run_id=run.run_id, job=run.job_name, cause=(context.failure_event.message or "").strip())
