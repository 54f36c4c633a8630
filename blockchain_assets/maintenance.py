"""The daily maintenance: what is older than the retention goes, and the run reports it."""

import dagster as dg

from resources.database import DatabaseResource
from txwatch.clock import utc_now
from txwatch.store.retention import drop_expired, expiry


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
                if expired.in_use:
                    context.log.warning(
                        f"{expired.table}: {expired.in_use} days are being read, perhaps by a backup, and are left for"
                        " the next time."
                    )
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
