"""The jobs: one shift of ingestion, the scoring of windows, and the daily maintenance."""

import dagster as dg

from blockchain_assets.instance import INGEST_POOL
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from txwatch.clock import utc_now
from txwatch.ingest.worker import work_until_signalled
from txwatch.store.retention import drop_expired, expiry

INGEST_PRIORITY = "100"


@dg.op(pool=INGEST_POOL, description="Follows the feed and lands it until the shift is over.")
def follow_feed(context: dg.OpExecutionContext, ingestion: IngestionResource) -> None:
    worker = ingestion.worker(holder=f"run {context.run_id[:8]}")
    shift = work_until_signalled(worker)
    context.log.info(f"Epoch {shift.epoch}: landed {shift.landed} transactions; {shift.reason}.")


@dg.job(
    name="ingest_shift",
    executor_def=dg.in_process_executor,
    tags={"dagster/priority": INGEST_PRIORITY},
    description="One shift of the ingest worker. The keeper sensor launches the next before this one ends.",
)
def ingest_shift_job() -> None:
    follow_feed()


score_windows_job = dg.define_asset_job(
    "score_windows",
    selection=["network_baseline", "address_activity", "transaction_features", "transaction_scores"],
    executor_def=dg.in_process_executor,
    description="Everything that a sealed window goes through, in one process: baseline, activity, features, scores.",
)


def maintenance_job(retention_days: int) -> dg.JobDefinition:
    """The daily job that drops what is older than the retention."""

    @dg.op(pool="maintenance", description=f"Drops what is older than {retention_days} days, and reports it.")
    def drop_expired_data(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
        before = expiry(utc_now(), retention_days)
        lines = ["| table | rows | days | seconds |", "| --- | --- | --- | --- |"]
        rows = 0
        with database.connect() as connection:
            for expired in drop_expired(connection, before):
                rows += expired.rows
                context.log.info(f"{expired.table}: {expired.rows} rows, {expired.days} days dropped.")
                lines.append(f"| {expired.table} | {expired.rows} | {expired.days} | {expired.seconds:.2f} |")
        context.add_output_metadata(
            {
                "before": dg.MetadataValue.timestamp(before),
                "rows": rows,
                "dropped": dg.MetadataValue.md("\n".join(lines)),
            }
        )

    @dg.job(
        name="maintenance",
        executor_def=dg.in_process_executor,
        description="Drops what is older than the retention. Alerts, deliveries, labels and feedback stay.",
    )
    def maintenance() -> None:
        drop_expired_data()

    return maintenance
