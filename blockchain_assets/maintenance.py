"""The daily maintenance: what is older than the retention goes, and the run reports it."""

import shutil
from datetime import datetime
from itertools import chain
from pathlib import Path

import dagster as dg

from resources.database import DatabaseResource
from txwatch.clock import utc_now
from txwatch.store.retention import DETAILS_DAYS, drop_expired, drop_run_records, expiry


def maintenance_job(retention_days: int) -> dg.JobDefinition:
    """The daily job that drops what is older than the retention."""

    @dg.op(pool="maintenance", description=f"Drops what is older than {retention_days} days, and reports it.")
    def drop_expired_data(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
        before = expiry(utc_now(), retention_days)
        lines = ["| table | rows | days | seconds |", "| --- | --- | --- | --- |"]
        rows = 0
        with database.connect() as connection:
            details_before = expiry(utc_now(), min(DETAILS_DAYS, retention_days))
            for expired in chain(
                drop_expired(connection, before), drop_run_records(connection, before, details_before)
            ):
                rows += expired.rows
                context.log.info(f"{expired.table}: {expired.rows} rows, {expired.days} days dropped.")
                if expired.in_use:
                    context.log.warning(
                        f"{expired.table}: {expired.in_use} days are being read, perhaps by a backup, and are left for"
                        " the next time."
                    )
                lines.append(f"| {expired.table} | {expired.rows} | {expired.days} | {expired.seconds:.2f} |")
        logs = drop_compute_logs(context.instance, details_before)
        context.add_output_metadata(
            {
                "logs_of_runs": logs,
                "before": dg.MetadataValue.timestamp(before),
                "rows": rows,
                "dropped": dg.MetadataValue.md("\n".join(lines)),
            }
        )

    @dg.job(
        name="maintenance",
        executor_def=dg.in_process_executor,
        description="Drops what is older than the retention, and the logs of runs sooner. Alerts, deliveries, labels"
        " and feedback stay.",
    )
    def maintenance() -> None:
        drop_expired_data()

    return maintenance


def drop_compute_logs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove what runs have printed on this machine and not touched since a moment. Returns of how many runs."""
    dropped = 0
    for folder in Path(instance.storage_directory()).glob("*/"):
        touched = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        if touched < before.timestamp():
            shutil.rmtree(folder)
            dropped += 1
    return dropped
