"""The scoring sensor asks for every window that was sealed, in few runs, and catches up when a champion appears."""

from datetime import timedelta

import dagster as dg

from sensors.scoring import scoring_sensor
from tests.conftest import HISTORY_START
from txwatch.windows import WINDOW, window_key

Range = tuple[str, str]
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def report(instance: dg.DagsterInstance, asset: str, *windows: int) -> None:
    for i in windows:
        key = window_key(HISTORY_START + i * WINDOW)
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(asset), partition=key))


def ranges(requests: list[dg.RunRequest]) -> list[tuple[int, int]]:
    def index(key: str) -> int:
        hours, minutes = map(int, key.split("-")[-1].split(":"))
        return (timedelta(hours=hours, minutes=minutes)) // WINDOW

    return [(index(r.tags[START]), index(r.tags[END])) for r in requests]


def test_sealed_windows_are_asked_for_once_in_contiguous_ranges(dagster_instance: dg.DagsterInstance) -> None:
    report(dagster_instance, "transactions", 2, 0, 1, 5)
    result = scoring_sensor(dg.build_sensor_context(instance=dagster_instance))
    assert isinstance(result, dg.SensorResult)
    assert ranges(list(result.run_requests or [])) == [(0, 2), (5, 5)]

    again = scoring_sensor(dg.build_sensor_context(instance=dagster_instance, cursor=result.cursor))
    assert isinstance(again, dg.SkipReason)

    # A window that was recovered is reported a second time, and is asked for a second time.
    report(dagster_instance, "transactions", 1)
    recovered = scoring_sensor(dg.build_sensor_context(instance=dagster_instance, cursor=result.cursor))
    assert isinstance(recovered, dg.SensorResult)
    assert ranges(list(recovered.run_requests or [])) == [(1, 1)]


def test_a_new_champion_scores_the_windows_that_waited_for_one(dagster_instance: dg.DagsterInstance) -> None:
    drained = scoring_sensor(dg.build_sensor_context(instance=dagster_instance))
    assert isinstance(drained, dg.SensorResult)
    report(dagster_instance, "transaction_features", 0, 1, 2, 5)
    report(dagster_instance, "transaction_scores", 0)
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("champion_model")))

    result = scoring_sensor(dg.build_sensor_context(instance=dagster_instance, cursor=drained.cursor))
    assert isinstance(result, dg.SensorResult)
    requests = list(result.run_requests or [])
    assert ranges(requests) == [(1, 2), (5, 5)]
    assert all(request.asset_selection == [dg.AssetKey("transaction_scores")] for request in requests)
    assert isinstance(
        scoring_sensor(dg.build_sensor_context(instance=dagster_instance, cursor=result.cursor)), dg.SkipReason
    )
