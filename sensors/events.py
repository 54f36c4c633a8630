"""What sensors share: reading Dagster's event log, and asking for runs of windows.

`asset_sensor` sees only the newest event since its cursor and loses those that came between two ticks. These sensors
read all events, oldest first, from a storage id that they keep in their cursor.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import dagster as dg

from txwatch.clock import contiguous, parse_window_key, window_key

EVENTS_PER_TICK = 1_000
WINDOWS_PER_RUN = 288
NOT_FINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

running_sensor = partial(dg.sensor, default_status=dg.DefaultSensorStatus.RUNNING)
"""`dg.sensor` for a sensor that is on from the start."""


def events_after(instance: dg.DagsterInstance, asset: dg.AssetKey, after: int) -> Sequence[dg.EventLogRecord]:
    """The asset's materializations after a storage id, oldest first, EVENTS_PER_TICK at most."""
    return instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, after_storage_id=after), limit=EVENTS_PER_TICK, ascending=True
    ).records


def was_run_lately(
    instance: dg.DagsterInstance, job: str, now: datetime, within: timedelta, tags: Mapping[str, str] | None = None
) -> bool:
    """Whether a run of the job with these tags was made within this time until `now`, by the database's clock.

    A run of the future was made while a clock was ahead, and says nothing. A run key made of the time would be used
    already after a clock was set back, and Dagster would make no run.
    """
    made = instance.get_run_records(dg.RunsFilter(job_name=job, tags=tags), limit=1)
    return any(timedelta(0) <= now - run.create_timestamp < within for run in made)


def was_materialized(instance: dg.DagsterInstance, asset: dg.AssetKey) -> bool:
    return instance.get_latest_materialization_event(asset) is not None


def materialized_windows(instance: dg.DagsterInstance, *assets: dg.AssetKey) -> list[set[str]]:
    """The keys of the windows that each asset has."""
    return [instance.get_materialized_partitions(asset) for asset in assets]


def windows_since(first_window: datetime, partition_keys: Iterable[str | None]) -> list[datetime]:
    """The windows of these keys from the first partition on: Dagster runs nothing of a range that begins before it."""
    windows = [parse_window_key(key) for key in partition_keys if key is not None]
    return [window for window in windows if window >= first_window]


def range_requests(windows: Iterable[datetime], assets: list[dg.AssetKey]) -> list[dg.RunRequest]:
    """One run request for each unbroken range of windows, of at most WINDOWS_PER_RUN."""
    return [
        dg.RunRequest(
            asset_selection=assets,
            tags={
                "dagster/asset_partition_range_start": window_key(first),
                "dagster/asset_partition_range_end": window_key(last),
            },
        )
        for first, last in contiguous(windows, limit=WINDOWS_PER_RUN)
    ]
