"""The daily maintenance: drops what is older than the retention, or gives it up to the archive, and reports it."""

import shutil
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path

import dagster as dg

from blockchain_assets.windows import markdown_table
from resources.database import DatabaseResource
from txwatch.archive.datasets import ARCHIVED
from txwatch.archive.manifest import Archive
from txwatch.archive.upkeep import GivenUp, check_files, give_up_days
from txwatch.clock import utc_now
from txwatch.store.retention import DETAILS_DAYS, MEMPOOL_DAYS, drop_expired, drop_run_records, expiry


def maintenance_job(retention_days: int, archive: Archive | None = None) -> dg.JobDefinition:
    @dg.op(pool="maintenance", description=f"Drops what is older than {retention_days} days, and reports it.")
    def drop_expired_data(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
        now = utc_now()
        before, details_before = expiry(now, retention_days), expiry(now, min(DETAILS_DAYS, retention_days))
        mempool_before = expiry(now, min(MEMPOOL_DAYS, retention_days))
        dropped = []
        kept: list[GivenUp] = []
        archived = [] if archive is None else [dataset.table for dataset in ARCHIVED.values()]
        with database.connect() as connection:
            if archive is not None:
                for day in give_up_days(connection, archive, before, now):
                    dropped.append((f"{day.dataset} of {day.day}", day.rows, 1, f"{day.seconds:.2f}"))
                    if day.why is not None:
                        kept.append(day)
                        context.log.warning(f"{day.dataset} of {day.day} stay in the database: {day.why}.")
                for _, fault in check_files(connection, archive, now):
                    if fault is not None:
                        context.log.error(f"The archive is damaged: {fault}.")
            of_tables = drop_expired(connection, before, mempool_before=mempool_before, archived=archived)
            of_runs = drop_run_records(connection, before, details_before)
            for expired in chain(of_tables, of_runs):
                dropped.append((expired.table, expired.rows, expired.days, f"{expired.seconds:.2f}"))
                context.log.info(f"{expired.table}: {expired.rows} rows, {expired.days} days dropped.")
                if expired.in_use:
                    context.log.warning(
                        f"{expired.table}: {expired.in_use} days are being read, perhaps by a backup, and are left for"
                        " the next time."
                    )
        context.add_output_metadata(
            {
                "logs_of_runs": drop_compute_logs(context.instance, details_before),
                "before": dg.MetadataValue.timestamp(before),
                "kept": markdown_table(["dataset", "day", "why"], [(day.dataset, day.day, day.why) for day in kept]),
                "rows": sum(rows for _, rows, _, _ in dropped),
                "dropped": markdown_table(["table", "rows", "days", "seconds"], dropped),
            }
        )

    @dg.job(
        name="maintenance",
        description="Drops what is older than the retention, and the logs of runs sooner. Alerts, deliveries, labels"
        " and feedback stay.",
    )
    def maintenance() -> None:
        drop_expired_data()

    return maintenance


def drop_compute_logs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove the printed output of runs on this machine that wrote none since `before`. Returns how many runs."""
    dropped = 0
    for folder in Path(instance.storage_directory()).glob("*/"):
        with suppress(OSError):  # of files that are gone meanwhile, or are another user's
            touched = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if touched < before.timestamp():
                shutil.rmtree(folder)
                dropped += 1
    return dropped
