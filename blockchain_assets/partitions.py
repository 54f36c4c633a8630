"""Five-minute windows as Dagster partitions, and which of them something still waits for.

Each asset's window depends on the same window of the assets before it, although it reads windows of a trailing day or a
context two windows older. Dagster carries the range of a backfill along the dependencies: an offset in one of them
would shift the chosen range, and split it into several runs.

The first window moves (`txwatch.store.history_start`). Whatever loads the definitions reads where it is: the code
server, which looks again (`blockchain_assets.platform.moving_start`), and each process of a run, wherever it runs. A
run or a backfill whose windows are no partitions any more fails, so the start waits for those that have not ended.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
from dagster._core.definitions.partitions.subset import TimeWindowPartitionsSubset
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import WILL_RETRY_TAG

from blockchain_assets import keys
from txwatch.clock import KEY_FORMAT, parse_window_key
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.history_start import HistoryStart, NoHistoryStartError, as_window, read_history_start

RANGE_START, PARTITION = "dagster/asset_partition_range_start", "dagster/partition"
"""The tags of a run that name its first window."""
UNFINISHED_RUNS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
UNFINISHED_BACKFILLS = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def recorded_start(settings: Settings) -> HistoryStart:
    """The database's start; TXWATCH_HISTORY_START while it has none.

    Raises NoHistoryStartError without either, and psycopg.OperationalError.
    """
    with connect(settings.require_database_url(), application="txwatch definitions") as connection:
        recorded = read_history_start(connection)
    if recorded is None and settings.history_start is not None:
        return HistoryStart(as_window(settings.history_start), as_window(settings.history_start))
    if recorded is None:
        raise NoHistoryStartError
    return recorded


def window_partitions(first_window: datetime) -> dg.TimeWindowPartitionsDefinition:
    return dg.TimeWindowPartitionsDefinition(start=first_window, cron_schedule="*/5 * * * *", fmt=KEY_FORMAT)


def oldest_asked_for(instance: dg.DagsterInstance) -> datetime | None:
    """The first window of the runs and backfills that have not ended, or will be tried again. None without any."""
    runs = [
        *instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_RUNS)),
        *(run for run in instance.get_runs(_failed_and_tried_again()) if run.is_complete_and_waiting_to_retry),
    ]
    asked_for = [window for run in runs for window in _windows([run.tags.get(RANGE_START) or run.tags.get(PARTITION)])]
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=UNFINISHED_BACKFILLS)):
        asked_for += _windows_of_backfill(backfill)
    return min(asked_for, default=None)


def carry_over_status(instance: dg.DagsterInstance, was: datetime, start: datetime) -> None:
    """After a move to a later start, keep what Dagster knows of the windows that are still partitions.

    Dagster keeps the status of an asset's partitions for one definition, and counts all events anew for another one:
    the first page after each move would take many seconds.
    """
    windows = window_partitions(start)
    within, name = windows.subset_with_all_partitions(), windows.get_serializable_unique_identifier()
    before = window_partitions(was).get_serializable_unique_identifier()

    def clipped(subset: str | None) -> str | None:
        return None if subset is None else (windows.deserialize_subset(subset) & within).serialize()

    for record in instance.get_asset_records(keys.WITH_WINDOWS):
        known = record.asset_entry.cached_status
        if known is not None and known.partitions_def_id == before:
            carried = known._replace(
                partitions_def_id=name,
                serialized_materialized_partition_subset=clipped(known.serialized_materialized_partition_subset),
                serialized_failed_partition_subset=clipped(known.serialized_failed_partition_subset),
                serialized_in_progress_partition_subset=clipped(known.serialized_in_progress_partition_subset),
            )
            instance.update_asset_cached_status_data(record.asset_entry.asset_key, carried)


def _failed_and_tried_again() -> dg.RunsFilter:
    return dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags={WILL_RETRY_TAG: "true"})


def _windows_of_backfill(backfill: PartitionBackfill) -> Iterator[datetime]:
    """The first of its windows, of each asset of it that has windows."""
    if backfill.asset_backfill_data is None:
        yield from _windows(backfill.partition_names or [])
        return
    subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
    for key in keys.WITH_WINDOWS:
        subset = subsets.get(key)
        if isinstance(subset, TimeWindowPartitionsSubset) and not subset.is_empty:
            yield subset.first_start


def _windows(partition_keys: Sequence[str | None]) -> Iterator[datetime]:
    """The windows of these keys; the archive's are of days."""
    for key in partition_keys:
        try:
            yield parse_window_key(key or "")
        except ValueError:
            continue
