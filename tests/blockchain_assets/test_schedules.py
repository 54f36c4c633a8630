"""What happens by the clock, and what waits for its time."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from blockchain_assets.definitions import build_defs
from tests.conftest import Installation

NIGHT = datetime(2024, 3, 14, 4, 10, tzinfo=UTC)


@pytest.mark.parametrize("name", ["daily_training", "hourly_drift_report"])
def test_what_needs_a_champion_waits_for_the_first(
    installation: Installation, dagster_instance: dg.DagsterInstance, name: str
) -> None:
    repository = build_defs(installation.settings).get_repository_def()
    schedule = repository.get_schedule_def(name)

    def runs() -> int:
        with dg.build_schedule_context(
            instance=dagster_instance, scheduled_execution_time=NIGHT, repository_def=repository
        ) as context:
            return len(schedule.evaluate_tick(context).run_requests or ())

    dagster_instance.wipe_assets([dg.AssetKey("champion_model")])
    assert runs() == 0
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("champion_model"))
    assert runs() == 1


@pytest.mark.parametrize("count", [0, 5])
def test_a_sample_is_asked_about_only_where_it_is_wanted(
    installation: Installation, dagster_instance: dg.DagsterInstance, count: int
) -> None:
    repository = build_defs(installation.settings.model_copy(update={"samples_a_day": count})).get_repository_def()
    assert repository.has_job("daily_sample") is (count > 0)
    assert ("daily_sample" in [schedule.name for schedule in repository.schedule_defs]) is (count > 0)
    if count:
        assert repository.get_job("daily_sample").execute_in_process(instance=dagster_instance).success
