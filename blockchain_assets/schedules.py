"""The schedules, by UTC."""

from functools import partial

import dagster as dg

from blockchain_assets import keys


def once_there_is_a_champion(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Skip until there is a champion; the first training has a sensor of its own."""
    if context.instance.get_latest_materialization_event(keys.CHAMPION_MODEL) is None:
        return dg.SkipReason("There is no champion yet. The first one is trained once there is enough to learn from.")
    return dg.RunRequest()


_running_schedule = partial(
    dg.ScheduleDefinition, execution_timezone="UTC", default_status=dg.DefaultScheduleStatus.RUNNING
)
daily_training = _running_schedule(
    name="daily_training",
    job_name="training",
    cron_schedule="10 4 * * *",
    execution_fn=once_there_is_a_champion,
    description="Trains a challenger on the trailing day, every night.",
)
daily_maintenance = _running_schedule(
    name="daily_maintenance",
    job_name="maintenance",
    cron_schedule="40 3 * * *",
    description="Drops what is older than the retention, every night.",
)
daily_sample = _running_schedule(
    name="daily_sample",
    job_name="daily_sample",
    cron_schedule="20 9 * * *",
    description="Asks about a sample of what raised no alert the day before, if TXWATCH_SAMPLES_A_DAY asks for any.",
)
hourly_drift_report = _running_schedule(
    name="hourly_drift_report",
    job_name="drift",
    cron_schedule="7 * * * *",
    execution_fn=once_there_is_a_champion,
    description="Compares the last hour of traffic with what the champion was trained on.",
)
