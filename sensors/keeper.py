"""Keeps an ingest worker running: asks for a shift when the lease shows that one is needed."""

from datetime import datetime, timedelta

import dagster as dg
import msgspec

from resources.database import DatabaseResource
from sensors.events import NOT_FINISHED, running_sensor
from txwatch.ingest.sealing import shift_needed
from txwatch.store.database import database_now
from txwatch.store.lease import read_lease

ASK_AGAIN = timedelta(seconds=30)
"""Until then a shift that was asked for may not have a run yet."""
STARTS_WITHIN = timedelta(minutes=3)
"""On a busy or slow machine. A run that has not taken the lease by then has died or hangs."""


class Asked(msgspec.Struct):
    """The sensor's cursor: the epoch of the lease when a shift was last asked for, and the time of that (UTC)."""

    epoch: int
    at: datetime


@running_sensor(
    job_name="ingest_shift",
    minimum_interval_seconds=1,
    description="Launches an ingest shift when nobody is landing the feed, or the present shift is about to end."
    " Decides on the heartbeat of the lease, not on the status of runs.",
)
def keeper_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
    with database.connect() as connection:
        lease, now = read_lease(connection), database_now(connection)
    need = shift_needed(lease, now)
    if need is None:
        return dg.SkipReason("The feed is being followed.")
    epoch = lease.epoch if lease else 0
    asked = msgspec.json.decode(context.cursor, type=Asked) if context.cursor else None
    if asked is not None and asked.epoch == epoch:
        patience = STARTS_WITHIN if _is_starting(context.instance, asked.at) else ASK_AGAIN
        # One of the future was asked for while the clock was ahead, and may have failed long ago.
        if timedelta(0) <= now - asked.at < patience:
            return dg.SkipReason(f"A shift was asked for {(now - asked.at).total_seconds():.0f} s ago: {need}.")
    context.log.info(f"Asking for a shift: {need}.")
    # A tick that is repeated after a crash has the same key; one that asks again has another.
    run_key = f"shift-{epoch + 1}-{int(now.timestamp())}"
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=run_key, tags={"txwatch/reason": need})],
        cursor=msgspec.json.encode(Asked(epoch, now)).decode(),
    )


def _is_starting(instance: dg.DagsterInstance, asked_at: datetime) -> bool:
    filters = dg.RunsFilter(job_name="ingest_shift", statuses=NOT_FINISHED, created_after=asked_at - ASK_AGAIN)
    return instance.get_runs_count(filters) > 0
