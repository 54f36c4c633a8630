"""What happens by the clock, and what waits for its time."""

import dagster as dg

from blockchain_assets.schedules import hourly_drift_report


def test_drift_is_reported_once_there_is_a_champion(dagster_instance: dg.DagsterInstance) -> None:
    with dg.build_schedule_context(instance=dagster_instance) as context:
        assert isinstance(hourly_drift_report(context), dg.SkipReason)
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization("champion_model"))
        assert isinstance(hourly_drift_report(context), dg.RunRequest)
