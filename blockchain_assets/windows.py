"""What all assets have in common that hold five-minute windows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from txwatch.clock import window_key
from txwatch.logs import from_now_on

OWNERS = ["team:txwatch"]

FRESH_WITHIN = dg.FreshnessPolicy.time_window(warn_window=timedelta(minutes=12), fail_window=timedelta(minutes=30))
"""A window is sealed and scored minutes after its end; twelve minutes without a new one is late."""

SCORING_POOL = "scoring"
"""Of the assets whose windows do not depend on each other: on several machines it may have more slots than one."""

RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""A database that restarts must not leave a window without its scores."""


def window_asset(
    windows: dg.TimeWindowPartitionsDefinition, *, group: str, pool: str | None = "windows", **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` for a table that is written window by window; a backfill of many windows is one run."""
    decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group,
        owners=OWNERS,
        pool=pool,
        freshness_policy=FRESH_WITHIN,
        retry_policy=RETRIES,
        **options,
    )
    return decorator


def shared_backfills(asset: dg.AssetsDefinition, windows_per_run: int | None) -> dg.AssetsDefinition:
    """The asset with backfills in runs of so many windows each, for several machines; None leaves them one run."""
    if windows_per_run is None:
        return asset
    return asset.with_attributes(backfill_policy=dg.BackfillPolicy.multi_run(windows_per_run))


def window_span(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """The start of the first and the end of the last window of this run, UTC. Log lines that follow name them."""
    span = context.partition_time_window
    from_now_on(run_id=context.run.run_id, window=window_key(span.start))
    return span.start, span.end
