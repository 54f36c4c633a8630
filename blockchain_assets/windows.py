"""What all assets have in common that hold five-minute windows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

OWNERS = ["team:txwatch"]

FRESH_WITHIN = dg.FreshnessPolicy.time_window(warn_window=timedelta(minutes=12), fail_window=timedelta(minutes=30))
"""A window is sealed and scored minutes after its end; twelve minutes without a new one is late."""


def window_asset(
    windows: dg.TimeWindowPartitionsDefinition, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` for a table that is rewritten window by window; a backfill of many windows is one run."""
    return dg.asset(
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="windows",
        owners=OWNERS,
        pool="windows",
        freshness_policy=FRESH_WITHIN,
        **options,
    )


def window_span(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """The start of the first and the end of the last window of this run, UTC."""
    span = context.partition_time_window
    return span.start, span.end
