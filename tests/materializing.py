"""Materializing assets for real: a Dagster run in this process, on a real instance, of the definitions as wired."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from blockchain_assets.definitions import build_defs
from blockchain_assets.windows import NEWEST_IN_TIME
from txwatch.clock import parse_window_key, window_key
from txwatch.settings import Settings


def materialize(
    instance: dg.DagsterInstance,
    *assets: str,
    windows: Sequence[datetime] = (),
    resources: Mapping[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """One run of these assets, as if they were chosen in the UI; of these windows, which are contiguous, if any."""
    job = build_defs(Settings(), resources).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        tags=range_tags(windows) if windows else {},
        raise_on_error=False,
    )


def range_tags(windows: Sequence[datetime]) -> dict[str, str]:
    """How Dagster names a range of partitions to a run."""
    return {
        "dagster/asset_partition_range_start": window_key(windows[0]),
        "dagster/asset_partition_range_end": window_key(windows[-1]),
    }


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the run's one materialization of an asset says, as plain values."""
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def metadata_by_window(result: dg.ExecuteInProcessResult, asset: str) -> dict[datetime, dict[str, Any]]:
    """What the run's materializations of an asset say, each of its window."""
    return {
        parse_window_key(str(event.partition)): {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node(asset)
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The outcome of each check that the run's assets made, by its name: not whether the newest window is in time."""
    found = result.get_asset_check_evaluations()
    return {check.check_name: check for check in found if check.check_name != NEWEST_IN_TIME}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why the run's failed step failed: the whole chain of errors, in words."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error, texts = event.step_failure_data.error, []
    while error is not None:
        texts.append(error.message)
        error = error.cause
    user = event.step_failure_data.user_failure_data
    return "\n".join([*texts, user.description if user and user.description else ""])
