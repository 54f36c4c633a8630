"""Each newly trained model is judged once, each judgement is followed by one drift report, and nothing else asks."""

import dagster as dg

from blockchain_assets.definitions import build_defs
from sensors.promotion import promotion_sensor
from tests.conftest import Installation

CHAMPION, DRIFT = dg.AssetKey("champion_model"), dg.AssetKey("drift_report")


def test_each_newly_trained_model_is_judged_once_and_reported_on_once(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    defs = build_defs(installation.settings)

    cursor = None

    def requested() -> tuple[int, int]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(
            defs, dagster_instance, promotion_sensor.asset_selection, cursor=cursor
        )
        cursor = result.cursor
        judged, reported = result.get_num_requested(CHAMPION), result.get_num_requested(DRIFT)
        assert judged + reported == result.total_requested
        return judged, reported

    def report(asset: dg.AssetKey, partition: str | None = None) -> None:
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))

    assert requested() == (0, 0), "there is nothing to judge"
    for minute in "00", "05":
        report(dg.AssetKey("anomaly_model"))
        assert requested()[0] == 1
        report(CHAMPION)
        assert requested() == (0, 1)
        report(DRIFT)
        assert requested() == (0, 0)
        report(dg.AssetKey("transaction_features"), partition=f"2024-03-14-00:{minute}")
        assert requested() == (0, 0), "new features are the schedule's business"
