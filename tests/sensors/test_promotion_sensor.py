"""The condition on `champion_model`: each newly trained model is judged once, and nothing else asks for that."""

import dagster as dg

from blockchain_assets.definitions import build_defs
from sensors.promotion import promotion_sensor
from tests.conftest import Installation

CHAMPION = dg.AssetKey("champion_model")


def test_each_newly_trained_model_is_judged_once(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    defs = build_defs(installation.settings)

    cursor = None

    def requested() -> int:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(
            defs, dagster_instance, promotion_sensor.asset_selection, cursor=cursor
        )
        cursor = result.cursor
        assert result.get_num_requested(CHAMPION) == result.total_requested
        return result.total_requested

    assert requested() == 0, "there is nothing to judge"
    for _ in range(2):
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("anomaly_model")))
        assert requested() == 1
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization(CHAMPION))
        assert requested() == 0
