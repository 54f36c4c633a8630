"""The freshness sensor looks at the newest window, not the newest materialization, and repeats itself by the hour."""

from datetime import datetime, timedelta

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import LATE_AFTER, MISSING_AFTER
from sensors.freshness import REPEATED_AFTER, freshness_sensor
from tests.conftest import HISTORY_START
from txwatch.clock import WINDOW, parse_window_key, window_key


def look(instance: dg.DagsterInstance, cursor: str | None, now: datetime) -> tuple[str, list[tuple[str, bool, str]]]:
    result = freshness_sensor(lambda: now)(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    told = []
    for event in result.asset_events:
        assert isinstance(event, dg.AssetCheckEvaluation)
        assert event.check_name == "newest_window_in_time"
        told.append((event.asset_key.to_user_string(), event.passed, event.severity.value))
    return str(result.cursor), told


def scored(instance: dg.DagsterInstance, window: datetime) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(keys.TRANSACTION_SCORES, partition=window_key(window)))


def test_a_backfill_of_an_old_window_hides_nothing(dagster_instance: dg.DagsterInstance) -> None:
    newest = HISTORY_START + 10 * WINDOW
    end = newest + WINDOW
    cursor, told = look(dagster_instance, None, end)
    assert told == [], "nothing is said of what has no window yet"
    scored(dagster_instance, newest)
    cursor, told = look(dagster_instance, cursor, end)
    assert told == [("transaction_scores", True, "WARN")]
    cursor, told = look(dagster_instance, cursor, end + LATE_AFTER)
    assert told == [("transaction_scores", False, "WARN")]
    scored(dagster_instance, HISTORY_START)
    cursor, told = look(dagster_instance, cursor, end + LATE_AFTER + timedelta(minutes=1))
    assert told == [], "it is still late, which was said"
    cursor, told = look(dagster_instance, cursor, end + MISSING_AFTER)
    assert told == [("transaction_scores", False, "ERROR")]
    scored(dagster_instance, newest + 6 * WINDOW)
    cursor, told = look(dagster_instance, cursor, end + MISSING_AFTER)
    assert told == [("transaction_scores", True, "WARN")]


def test_what_does_not_change_is_told_by_the_hour(dagster_instance: dg.DagsterInstance) -> None:
    # The newest window that there is by now.
    newest = max(
        map(parse_window_key, dagster_instance.get_materialized_partitions(keys.TRANSACTION_SCORES)),
        default=HISTORY_START,
    )
    scored(dagster_instance, newest)
    late = newest + WINDOW + MISSING_AFTER
    cursor, told = look(dagster_instance, None, late)
    assert len(told) == 1
    cursor, told = look(dagster_instance, cursor, late + REPEATED_AFTER - timedelta(seconds=1))
    assert told == []
    cursor, told = look(dagster_instance, cursor, late + REPEATED_AFTER)
    assert len(told) == 1
