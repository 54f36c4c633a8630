"""The daily maintenance: drops what is older than the retention, or gives it up to the archive, and reports it.

Then it moves the start of the history after what is gone, and removes days from the archive that are too old for it.
"""

import shutil
from contextlib import suppress
from datetime import date, datetime
from itertools import chain
from pathlib import Path

import dagster as dg

from blockchain_assets.partitions import carry_over_status, oldest_asked_for
from blockchain_assets.windows import markdown_table
from resources.database import DatabaseResource
from txwatch.archive.datasets import ARCHIVED
from txwatch.archive.manifest import Archive
from txwatch.archive.removal import remove_days
from txwatch.archive.upkeep import GivenUp, check_files, give_up_days
from txwatch.clock import utc_now, window_key
from txwatch.store.history_start import move_history_start
from txwatch.store.retention import (
    DETAILS_DAYS,
    MEMPOOL_DAYS,
    confirmed_now,
    drop_expired,
    drop_run_records,
    expiry,
)


def maintenance_job(
    retention_days: int,
    archive: Archive | None = None,
    archive_days: int | None = None,
    history_start: datetime | None = None,
) -> dg.JobDefinition:
    """The job for what the settings of these names say."""

    @dg.op(pool="maintenance", description=f"Drops what is older than {retention_days} days, and reports it.")
    def drop_expired_data(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
        now = utc_now()
        details_before = expiry(now, min(DETAILS_DAYS, retention_days))
        dropped = []
        kept: list[GivenUp] = []
        removed: list[tuple[str, date, int, str]] = []
        archived = [] if archive is None else [dataset.table for dataset in ARCHIVED.values()]
        with database.connect() as connection:
            today = confirmed_now(connection, now, retention_days)
            before, mempool_before = expiry(today, retention_days), expiry(today, min(MEMPOOL_DAYS, retention_days))
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
            if archive is not None and archive_days is not None:
                for gone in remove_days(connection, archive, expiry(today, archive_days), now):
                    if gone.why is not None:
                        context.log.warning(f"{gone.dataset} of {gone.day} stay in the archive: {gone.why}.")
                    removed.append((gone.dataset, gone.day, gone.bytes, gone.why or ""))
            was, start = move_history_start(
                connection, now, retention_days, history_start, oldest_asked_for(context.instance)
            )
        if start > was:
            carry_over_status(context.instance, was, start)
        context.add_output_metadata(
            {
                "logs_of_runs": drop_compute_logs(context.instance, details_before),
                "before": dg.MetadataValue.timestamp(before),
                "kept": markdown_table(["dataset", "day", "why"], [(day.dataset, day.day, day.why) for day in kept]),
                "rows": sum(rows for _, rows, _, _ in dropped),
                "dropped": markdown_table(["table", "rows", "days", "seconds"], dropped),
                "removed_from_the_archive": markdown_table(["dataset", "day", "bytes", "why it stays"], removed),
                "first_window_was": window_key(was),
                "first_window": window_key(start),
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
