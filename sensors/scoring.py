"""Asks for the runs that turn sealed windows into scores.

Each window of `transactions` that is sealed (or recovered, or materialized by hand) goes through baseline, activity,
features, scores and alerts in one run. Before there is a champion, scores and alerts are left out: the windows wait in
the cursor, and are scored once a model was promoted.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

import dagster as dg
import msgspec

from blockchain_assets import keys
from sensors.events import events_after, range_requests, running_sensor, was_materialized, windows_since
from txwatch.clock import contiguous, window_key, window_range

Range = tuple[datetime, datetime]
"""The starts of the first and the last of an unbroken run of windows."""


class Cursor(msgspec.Struct):
    """The storage id of the last event seen, and the windows that wait for a champion."""

    sealed: int = 0
    unscored: list[Range] = []


def scoring_sensor(first_window: datetime) -> dg.SensorDefinition:

    @running_sensor(
        name="scoring_sensor",
        job_name="score_windows",
        minimum_interval_seconds=1,
        description="Drains sealed windows and asks for one run for each contiguous range of them: baseline, activity,"
        " features, scores and alerts. Windows that were sealed before there was a champion are scored once there is"
        " one.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
        events = events_after(context.instance, keys.TRANSACTIONS, cursor.sealed)
        sealed = windows_since(first_window, (event.partition_key for event in events))
        waiting = contiguous(window for window in _windows(cursor.unscored) if window >= first_window)
        if not was_materialized(context.instance, keys.CHAMPION_MODEL):
            cursor.unscored = contiguous([*sealed, *_windows(waiting)])
            requests = range_requests(sealed, keys.BEFORE_SCORES)
        else:
            featured = context.instance.get_materialized_partitions(keys.TRANSACTION_FEATURES) if waiting else set()
            ready, cursor.unscored = split_ready(waiting, featured)
            requests = range_requests(sealed, [*keys.BEFORE_SCORES, *keys.SCORES]) + range_requests(ready, keys.SCORES)
        if not requests and not events:
            return dg.SkipReason("No window was sealed since the last tick.")
        cursor.sealed = events[-1].storage_id if events else cursor.sealed
        return dg.SensorResult(run_requests=requests, cursor=msgspec.json.encode(cursor).decode())

    return sensor


def split_ready(waiting: Iterable[Range], featured: Collection[str]) -> tuple[list[datetime], list[Range]]:
    """Of the windows that wait for a champion, those that have features by now, and the ranges of the others."""
    windows = _windows(waiting)
    ready = [window for window in windows if window_key(window) in featured]
    return ready, contiguous(set(windows).difference(ready))


def _windows(ranges: Iterable[Range]) -> list[datetime]:
    return [window for first, last in ranges for window in [*window_range(first, last), last]]
