"""The drill's run shows what came back, and fails when something did not."""

import dagster as dg
import pytest

from blockchain_assets.definitions import build_defs
from tests.conftest import Installation
from tests.system.test_drill import with_rows
from txwatch.clock import utc_now
from txwatch.settings import Settings
from txwatch.system.backup import backup


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """Dagster has its tables."""
    return prepared


def test_its_report_is_shown_and_a_table_that_is_not_whole_fails_it(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    (installation.home / "backups").mkdir()
    file = installation.home / "backups/today.tar"
    card = backup(installation.database_url, installation.home, file, utc_now())
    job = build_defs(Settings()).resolve_job_def("restore_drill")
    result = job.execute_in_process(instance=dagster_instance)
    assert result.success
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    shown = {name: value.value for name, value in output.event_specific_data.metadata.items()}
    assert (shown["file"], shown["made_at"], shown["schema"]) == ("today.tar", card.made_at, card.revision)
    assert shown["rows"] == sum(card.rows.values()) > 0
    assert "| public.alerts | 0 | 0 |" in str(shown["tables"])

    with_rows(file, alerts=3)
    failed = job.execute_in_process(instance=dagster_instance, raise_on_error=False)
    assert not failed.success
    (event,) = [event for event in failed.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "public.alerts did not come back whole from today.tar" in str(event.step_failure_data.error)
    assert "| public.alerts | 3 | 0 |" in str(event.step_failure_data.user_failure_data.metadata["tables"].value)
