"""What happens by the clock."""

import dagster as dg

from blockchain_assets import keys


def once_there_is_a_champion(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """For what would fail without one: until then it is the first training's sensor that waits for its time."""
    if context.instance.get_latest_materialization_event(keys.CHAMPION_MODEL) is None:
        return dg.SkipReason("There is no champion yet. The first one is trained once there is enough to learn from.")
    return dg.RunRequest()


daily_training = dg.ScheduleDefinition(
    name="daily_training",
    job_name="training",
    cron_schedule="10 4 * * *",
    execution_fn=once_there_is_a_champion,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Trains a challenger on the trailing day, every night.",
)

daily_maintenance = dg.ScheduleDefinition(
    name="daily_maintenance",
    job_name="maintenance",
    cron_schedule="40 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Drops what is older than the retention, every night.",
)

hourly_drift_report = dg.ScheduleDefinition(
    name="hourly_drift_report",
    job_name="drift",
    cron_schedule="7 * * * *",
    execution_fn=once_there_is_a_champion,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares the last hour of traffic with what the champion was trained on.",
)
