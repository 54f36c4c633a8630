"""The scoring sensor asks for every window that was sealed, in few runs, and catches up when a champion appears."""

from collections.abc import Iterable
from datetime import timedelta

import dagster as dg
import pytest

from sensors.events import WINDOWS_PER_RUN, range_requests
from sensors.scoring import scoring_sensor, split_ready
from tests.conftest import HISTORY_START, Installation, dagster_at
from txwatch.clock import WINDOW, window_key

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
BEFORE_SCORES = {"network_baseline", "address_activity", "transaction_features"}
SCORES = {"transaction_scores", "alerts"}


@pytest.fixture
def instance(installation: Installation) -> Iterable[dg.DagsterInstance]:
    """An instance whose event log is empty."""
    with dagster_at(installation.home) as instance:
        instance.event_log_storage.wipe()
        yield instance


def window(i: int) -> str:
    return window_key(HISTORY_START + i * WINDOW)


def report(instance: dg.DagsterInstance, asset: str, *windows: int) -> None:
    for i in windows:
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(asset), partition=window(i)))


def promote(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("champion_model")))


class Sensor:
    """The sensor from tick to tick, as the daemon keeps its cursor."""

    def __init__(self, instance: dg.DagsterInstance, first: int = 0) -> None:
        self.instance = instance
        self.sensor = scoring_sensor(HISTORY_START + first * WINDOW)
        self.cursor: str | None = None

    def tick(self) -> list[tuple[int, int, set[str]]]:
        """What it asks for: the numbers of the first and the last window, and the assets."""
        result = self.sensor(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return [
            (number(r.tags[START]), number(r.tags[END]), {key.to_user_string() for key in r.asset_selection or []})
            for r in result.run_requests or []
        ]


def number(key: str) -> int:
    hours, minutes = map(int, key.split("-")[-1].split(":"))
    return timedelta(hours=hours, minutes=minutes) // WINDOW


def test_sealed_windows_are_asked_for_once_in_contiguous_ranges(instance: dg.DagsterInstance) -> None:
    promote(instance)
    report(instance, "transactions", 2, 0, 1, 5)
    sensor, everything = Sensor(instance), BEFORE_SCORES | SCORES
    assert sensor.tick() == [(0, 2, everything), (5, 5, everything)]
    assert sensor.tick() == []

    # A window that was recovered is reported a second time, and is asked for a second time.
    report(instance, "transactions", 1)
    assert sensor.tick() == [(1, 1, everything)]


def test_before_there_is_a_champion_windows_get_features_and_wait_for_their_scores(
    instance: dg.DagsterInstance,
) -> None:
    sensor = Sensor(instance)
    report(instance, "transactions", 0, 1)
    assert sensor.tick() == [(0, 1, BEFORE_SCORES)]
    report(instance, "transactions", 2, 4)
    assert sensor.tick() == [(2, 2, BEFORE_SCORES), (4, 4, BEFORE_SCORES)]

    report(instance, "transaction_features", 0, 1, 2)
    assert sensor.tick() == [], "there is still no champion"
    promote(instance)
    report(instance, "transactions", 5)
    assert sensor.tick() == [(5, 5, BEFORE_SCORES | SCORES), (0, 2, SCORES)]
    assert sensor.tick() == [], "window 4 has no features yet: its run is still on the way"
    report(instance, "transaction_features", 4)
    assert sensor.tick() == [(4, 4, SCORES)]
    assert sensor.tick() == []


def test_after_the_start_was_moved_later_the_rest_of_a_range_is_asked_for(instance: dg.DagsterInstance) -> None:
    report(instance, "transactions", 0, 1, 2, 3)
    before = Sensor(instance)
    assert before.tick() == [(0, 3, BEFORE_SCORES)]
    report(instance, "transaction_features", 0, 1, 2, 3)
    promote(instance)
    report(instance, "transactions", 1, 2, 4)

    moved = Sensor(instance, first=2)
    moved.cursor = before.cursor
    everything = BEFORE_SCORES | SCORES
    assert moved.tick() == [(2, 2, everything), (4, 4, everything), (2, 3, SCORES)]
    report(instance, "transactions", 0, 1)
    drained = moved.cursor
    assert moved.tick() == []
    assert moved.cursor != drained, "what is left out is not read again at each tick"


def test_only_windows_with_features_are_ready() -> None:
    first, second, third = (HISTORY_START + i * WINDOW for i in range(3))
    assert split_ready([(first, third)], {window(0), window(2)}) == ([first, third], [(second, second)])
    assert split_ready([], {window(0)}) == ([], [])


def test_a_run_takes_a_day_at_most() -> None:
    windows = [HISTORY_START + i * WINDOW for i in range(2 * WINDOWS_PER_RUN + 1)]
    requests = range_requests(windows, [dg.AssetKey("transaction_scores")])
    assert [r.tags[START] for r in requests] == [window(i * WINDOWS_PER_RUN) for i in range(3)]
    assert requests[-1].tags[END] == window(2 * WINDOWS_PER_RUN)
