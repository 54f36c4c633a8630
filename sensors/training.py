"""Asks for the first model as soon as there is enough to learn from. Later ones come by schedule."""

from datetime import timedelta

import dagster as dg

from resources.database import DatabaseResource
from txwatch.clock import utc_now
from txwatch.detection.training import MIN_ROWS

RETRY_AFTER = timedelta(minutes=10)


def first_training_needed(rows: int, promoted: bool) -> bool:
    """Whether there is no champion, and enough to train one."""
    return not promoted and rows >= MIN_ROWS


@dg.sensor(
    job_name="training",
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for the training of a first model once enough transactions have features.",
)
def first_training_sensor(
    context: dg.SensorEvaluationContext, database: DatabaseResource
) -> dg.SensorResult | dg.SkipReason:
    promoted = context.instance.get_latest_materialization_event(dg.AssetKey("champion_model")) is not None
    if promoted:
        return dg.SkipReason("There is a model; the daily schedule trains the next one.")
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM transaction_features").fetchone()
    rows = row[0] if row else 0
    if not first_training_needed(rows, promoted):
        return dg.SkipReason(f"{rows} transactions have features; the first training wants {MIN_ROWS}.")
    attempt = int(utc_now().timestamp() // RETRY_AFTER.total_seconds())
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"first-training-{attempt}")])
