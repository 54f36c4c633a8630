"""Reading Dagster's event log: what sensors drain.

`asset_sensor` sees only the newest event since its cursor and loses those that came between two ticks, so sensors read
them all, oldest first, from a storage id that they keep in their cursor.
"""

from collections.abc import Sequence

import dagster as dg

EVENTS_PER_TICK = 1_000
NOT_FINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
"""The states of a run that is still to come to an end by itself."""


def drain(instance: dg.DagsterInstance, asset: dg.AssetKey, after: int) -> tuple[list[str], int]:
    """Partition keys of the asset's materializations after a storage id, oldest first, and the new storage id."""
    records = events_after(instance, asset, after)
    keys = [record.partition_key for record in records if record.partition_key is not None]
    return keys, records[-1].storage_id if records else after


def events_after(instance: dg.DagsterInstance, asset: dg.AssetKey, after: int) -> Sequence[dg.EventLogRecord]:
    """The asset's materializations after a storage id, oldest first, EVENTS_PER_TICK at most."""
    return instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, after_storage_id=after), limit=EVENTS_PER_TICK, ascending=True
    ).records


def was_materialized(instance: dg.DagsterInstance, asset: dg.AssetKey) -> bool:
    """Whether the asset was ever materialized."""
    return instance.get_latest_materialization_event(asset) is not None
