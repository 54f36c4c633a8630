"""What assets share: the settings of those with five-minute windows, results of checks, and tables of figures."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from structlog.contextvars import bind_contextvars

from blockchain_assets.columns import table_metadata
from blockchain_assets.retries import RETRIES
from txwatch.clock import WINDOW, parse_window_key, utc_now, window_key

OWNERS = ["team:txwatch"]
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
NEWEST_IN_TIME = "newest_window_in_time"
LATE_AFTER, MISSING_AFTER = timedelta(minutes=12), timedelta(minutes=30)
"""Since the end of the newest window. A window is sealed and scored minutes after its end."""
SCORING_POOL = "scoring"
"""The pool of assets whose windows do not depend on each other. On several machines it may have more than one slot."""


def window_asset(
    windows: dg.TimeWindowPartitionsDefinition,
    *,
    key: dg.AssetKey,
    check_specs: Sequence[dg.AssetCheckSpec] = (),
    pool: str | None = "windows",
    **options: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` for the table of this name, which is written by window. A backfill of many windows is one run."""
    decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=key,
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        owners=OWNERS,
        pool=pool,
        check_specs=check_specs,
        metadata=table_metadata(key.to_user_string()),
        retry_policy=RETRIES,
        **options,
    )
    return decorator


def newest_in_time(key: dg.AssetKey) -> dg.AssetChecksDefinition:
    """A check of the newest window of an asset, which the freshness sensor evaluates.

    Dagster's own freshness policies look at the newest materialization, whichever window it was of: a backfill of last
    year would hide that nothing was scored since the morning.
    """

    @dg.asset_check(
        asset=key,
        name=NEWEST_IN_TIME,
        description=f"The newest window ended less than {LATE_AFTER // timedelta(minutes=1)} minutes ago. Told by the"
        " freshness sensor. If it fails: are `txwatch status` and the sensors' ticks well?",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found = newest_window(context.instance, key, utc_now())
        return found or dg.AssetCheckResult(passed=True, description="It has no window yet.")

    return check


def newest_window(instance: dg.DagsterInstance, key: dg.AssetKey, now: datetime) -> dg.AssetCheckResult | None:
    """Whether the newest window that the asset has is in time at `now`, UTC. None if it has none."""
    newest = max(instance.get_materialized_partitions(key), default=None)
    if newest is None:
        return None
    age = now - parse_window_key(newest) - WINDOW
    return dg.AssetCheckResult(
        passed=age < LATE_AFTER,
        check_name=NEWEST_IN_TIME,
        asset_key=key,
        severity=WARN if age < MISSING_AFTER else ERROR,
        metadata={"newest_window": newest, "minutes_since_its_end": round(age / timedelta(minutes=1), 1)},
    )


def own_steps(*assets: dg.AssetKey) -> dg.AssetSelection:
    """These assets with the checks that they make themselves. Whether they are in time is no step of a window."""
    in_time = (dg.AssetCheckKey(key, NEWEST_IN_TIME) for key in assets)
    return dg.AssetSelection.assets(*assets) - dg.AssetSelection.checks(*in_time)


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
