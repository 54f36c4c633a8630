"""Training is asked for when drift persists, once, and not for what was found before the last promotion."""

import dagster as dg

from sensors.drift import drift_sensor


def report(instance: dg.DagsterInstance, drifted: bool) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(dg.AssetKey("drift_report"), metadata={"drifted": drifted})
    )


def promote(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("champion_model")))


def test_three_reports_in_a_row_ask_for_one_training(dagster_instance: dg.DagsterInstance) -> None:
    cursor: str | None = None

    def tick() -> dg.SensorResult | str:
        nonlocal cursor
        context = dg.build_sensor_context(instance=dagster_instance, cursor=cursor)
        result = drift_sensor(context)
        if isinstance(result, dg.SkipReason):
            cursor = context.cursor
            return str(result.skip_message)
        cursor = result.cursor
        return result

    assert tick() == "There is no new drift report."
    promote(dagster_instance)
    for found, words in [(True, "1 reports"), (False, "0 reports"), (True, "1 reports"), (True, "2 reports")]:
        report(dagster_instance, found)
        assert tick() == f"{words} in a row found drift; 3 ask for training."
        assert tick() == "There is no new drift report."
    report(dagster_instance, True)
    asked = tick()
    assert isinstance(asked, dg.SensorResult)
    assert [request.tags["txwatch/reason"] for request in asked.run_requests or []] == ["drift persists"]

    report(dagster_instance, True)
    assert str(tick()).startswith("Drift persists; training was asked for at ")

    promote(dagster_instance)
    report(dagster_instance, True)
    assert tick() == "1 reports in a row found drift; 3 ask for training."
