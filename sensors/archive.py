"""Asks for the archiving of a day once it is complete, and again when something was written into it later."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from resources.database import DatabaseResource
from sensors.events import NOT_FINISHED, running_sensor, was_run_lately
from txwatch.archive.days import OpenDay, closed_days, days_to_archive, read_days
from txwatch.clock import Clock
from txwatch.store.database import database_now

ASK_AGAIN = timedelta(minutes=30)
"""A day whose archiving failed is asked for again then: a disk may have room again."""
PARTITION = "dagster/partition"


def archive_sensor(earliest_window: datetime, clock: Clock | None = None) -> dg.SensorDefinition:
    """The sensor for days from that of `earliest_window` on. `clock` defaults to the database's."""

    @running_sensor(
        name="archive_sensor",
        job_name="archive",
        minimum_interval_seconds=60,
        description="Asks for the archiving of each day once it is over, recovered and scored, one after the other;"
        " again if something is written into it later.",
    )
    def sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
        with database.connect() as connection:
            now = clock() if clock else database_now(connection)
            closed, still_open = closed_days(connection, now)
            days = [day for day in days_to_archive(closed, read_days(connection)) if day >= earliest_window.date()]
        if not days:
            return dg.SkipReason(_nothing_to_do(still_open))
        if context.instance.get_runs_count(dg.RunsFilter(job_name="archive", statuses=NOT_FINISHED)):
            return dg.SkipReason(f"A day is being archived; {len(days)} wait, the oldest is {days[0]}.")
        day = next((day for day in days if not _was_asked_for(context.instance, day, now)), None)
        if day is None:
            return dg.SkipReason(f"All that wait were asked for a while ago, the oldest is {days[0]}.")
        return dg.SensorResult(run_requests=[dg.RunRequest(partition_key=day.isoformat())])

    return sensor


def _was_asked_for(instance: dg.DagsterInstance, day: date, now: datetime) -> bool:
    return was_run_lately(instance, "archive", now, ASK_AGAIN, {PARTITION: day.isoformat()})


def _nothing_to_do(still_open: Sequence[OpenDay]) -> str:
    if not still_open:
        return "Every day that is over is archived."
    return f"{still_open[0].day} is over but not complete: {still_open[0].why}."
