"""Keeps an ingest worker running: launches a shift when the lease says that one is needed."""

import dagster as dg

from resources.database import DatabaseResource
from txwatch.clock import utc_now
from txwatch.ingest.keeping import shift_needed
from txwatch.store.lease import read_lease


@dg.sensor(
    job_name="ingest_shift",
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches an ingest shift when nobody is landing the feed, or the present shift is about to end."
    " Decides on the heartbeat of the lease, not on the status of runs.",
)
def keeper_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
    now = utc_now()
    with database.connect() as connection:
        lease = read_lease(connection)
    need = shift_needed(lease, now)
    if need is None:
        return dg.SkipReason("The feed is being followed.")
    # A constant key would never run again; one by epoch and half-minute asks again while nothing came of the last.
    epoch = lease.epoch if lease else 0
    run_key = f"shift-{epoch + 1}-{int(now.timestamp()) // 30}"
    context.log.info(f"Asking for a shift: {need}.")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=run_key, tags={"txwatch/reason": need})])
