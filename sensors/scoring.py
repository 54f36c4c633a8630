"""Asks for the runs that turn sealed windows into scores.

Two kinds of event lead to a run: a window of `transactions` was sealed (or recovered), or a champion was promoted and
windows wait that were sealed before there was one. Both are drained from the event log, oldest first, from a cursor:
`asset_sensor` would see the newest event only, and lose the windows that landed between two ticks.
"""

import json
from collections.abc import Iterable
from datetime import datetime

import dagster as dg

from txwatch.windows import contiguous, parse_window_key, window_key

SEALED = dg.AssetKey("transactions")
PROMOTED = dg.AssetKey("champion_model")
FEATURED = dg.AssetKey("transaction_features")
SCORED = dg.AssetKey("transaction_scores")
EVENTS_PER_TICK = 1_000
WINDOWS_PER_RUN = 288


@dg.sensor(
    job_name="score_windows",
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Drains sealed windows and asks for one run for each contiguous range of them: baseline, activity,"
    " features and scores. When a champion appears, asks for the scores of windows that waited for it.",
)
def scoring_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    cursor = json.loads(context.cursor) if context.cursor else {"sealed": 0, "promoted": 0}
    sealed, cursor["sealed"] = _drain(context.instance, SEALED, cursor["sealed"])
    _, promoted = _drain(context.instance, PROMOTED, cursor["promoted"])
    requests = range_requests((parse_window_key(key) for key in sealed), "window", [])
    if promoted != cursor["promoted"]:
        waiting = context.instance.get_materialized_partitions(FEATURED) - context.instance.get_materialized_partitions(
            SCORED
        )
        requests += range_requests(map(parse_window_key, waiting - set(sealed)), f"backlog-{promoted}", [SCORED])
        cursor["promoted"] = promoted
    if not requests:
        return dg.SkipReason("No window was sealed since the last tick.")
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(cursor))


def range_requests(windows: Iterable[datetime], purpose: str, assets: list[dg.AssetKey]) -> list[dg.RunRequest]:
    """One run request for each unbroken range of windows, of at most WINDOWS_PER_RUN; `assets` empty means all."""
    requests = []
    for first, last in contiguous(windows, limit=WINDOWS_PER_RUN):
        requests.append(
            dg.RunRequest(
                asset_selection=assets or None,
                tags={
                    "dagster/asset_partition_range_start": window_key(first),
                    "dagster/asset_partition_range_end": window_key(last),
                    "txwatch/purpose": purpose,
                },
            )
        )
    return requests


def _drain(instance: dg.DagsterInstance, asset: dg.AssetKey, after: int) -> tuple[list[str], int]:
    """Partition keys of the asset's materializations after a storage id, oldest first, and the new storage id."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, after_storage_id=after), limit=EVENTS_PER_TICK, ascending=True
    ).records
    keys = [record.partition_key for record in records if record.partition_key is not None]
    return keys, records[-1].storage_id if records else after
