"""What happens by the clock."""

import dagster as dg

daily_training = dg.ScheduleDefinition(
    name="daily_training",
    job_name="training",
    cron_schedule="10 4 * * *",
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
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares the last hour of traffic with what the champion was trained on.",
)
