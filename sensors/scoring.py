"""Asks for the runs that turn sealed windows into scores.

Each window of `transactions` that is sealed (or recovered, or materialized by hand) goes through baseline, activity,
features, scores and alerts in one run. Before there is a champion scores and alerts are left out: those windows wait in
the cursor, and are scored once a model was promoted.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

import dagster as dg
import msgspec

from blockchain_assets import keys
from sensors.events import drain, was_materialized
from txwatch.clock import contiguous, parse_window_key, window_key, window_range

WINDOWS_PER_RUN = 288

Range = tuple[datetime, datetime]
"""The starts of the first and the last of an unbroken run of windows."""


class Cursor(msgspec.Struct):
    """Where the sensor has come to: the storage id of the last event seen, and the windows that wait for a champion."""

    sealed: int = 0
    unscored: list[Range] = []


def scoring_sensor(first_window: datetime) -> dg.SensorDefinition:
    """The sensor for partitions that begin at `first_window`."""

    @dg.sensor(
        name="scoring_sensor",
        job_name="score_windows",
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Drains sealed windows and asks for one run for each contiguous range of them: baseline, activity,"
        " features, scores and alerts. Windows that were sealed before there was a champion are scored once there is"
        " one.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
        partitions, cursor.sealed = drain(context.instance, keys.TRANSACTIONS, cursor.sealed)
        sealed = since(first_window, map(parse_window_key, partitions))
        waiting = contiguous(since(first_window, _windows(cursor.unscored)))
        if not was_materialized(context.instance, keys.CHAMPION_MODEL):
            cursor.unscored = contiguous([*sealed, *_windows(waiting)])
            requests = range_requests(sealed, keys.BEFORE_SCORES)
        else:
            featured = context.instance.get_materialized_partitions(keys.TRANSACTION_FEATURES) if waiting else set()
            ready, cursor.unscored = split_ready(waiting, featured)
            requests = range_requests(sealed, [*keys.BEFORE_SCORES, *keys.SCORES]) + range_requests(ready, keys.SCORES)
        if not requests and not partitions:
            return dg.SkipReason("No window was sealed since the last tick.")
        return dg.SensorResult(run_requests=requests, cursor=msgspec.json.encode(cursor).decode())

    return sensor


def since(first_window: datetime, windows: Iterable[datetime]) -> list[datetime]:
    """Those of the windows that are partitions: of a range that begins before the first one Dagster runs nothing."""
    return [window for window in windows if window >= first_window]


def split_ready(waiting: Iterable[Range], featured: Collection[str]) -> tuple[list[datetime], list[Range]]:
    """Of the windows that wait for a champion, those that have features by now, and the ranges of the others."""
    ready: list[datetime] = []
    rest: list[datetime] = []
    for window in _windows(waiting):
        (ready if window_key(window) in featured else rest).append(window)
    return ready, contiguous(rest)


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


def _windows(ranges: Iterable[Range]) -> list[datetime]:
    return [window for first, last in ranges for window in [*window_range(first, last), last]]
