"""What assets share: the settings of those with five-minute windows, results of checks, and tables of figures."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from structlog.contextvars import bind_contextvars

from txwatch.clock import window_key

OWNERS = ["team:txwatch"]
WARN = dg.AssetCheckSeverity.WARN
FRESH_WITHIN = dg.FreshnessPolicy.time_window(warn_window=timedelta(minutes=12), fail_window=timedelta(minutes=30))
"""A window is sealed and scored minutes after its end, so twelve minutes without a new one is late."""
SCORING_POOL = "scoring"
"""The pool of assets whose windows do not depend on each other. On several machines it may have more than one slot."""
RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""A database that restarts must not leave a window without its scores."""


def window_asset(
    windows: dg.TimeWindowPartitionsDefinition, *, group: str, pool: str | None = "windows", **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` for a table that is written by window. A backfill of many windows is one run."""
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
    """The asset with backfills in runs of this many windows, for several machines. None leaves one run."""
    if windows_per_run is None:
        return asset
    return asset.with_attributes(backfill_policy=dg.BackfillPolicy.multi_run(windows_per_run))


def window_span(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """The start of the first and the end of the last window of this run, UTC. Later log lines name run and window."""
    span = context.partition_time_window
    bind_contextvars(run_id=context.run.run_id, window=window_key(span.start))
    return span.start, span.end


def check_result(
    spec: dg.AssetCheckSpec, passed: bool, figures: dict[str, Any], severity: dg.AssetCheckSeverity = WARN
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=passed, check_name=spec.name, severity=severity, metadata=figures)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    lines = [head, ["---"] * len(head), *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))
