"""The daily maintenance drops what is older than the retention, and says what it dropped."""

from datetime import timedelta

import dagster as dg

from blockchain_assets.definitions import build_defs
from tests.builders import transaction
from tests.conftest import Installation
from txwatch.clock import utc_now
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.landing import land_transactions


def test_it_reports_what_it_dropped(installation: Installation, dagster_instance: dg.DagsterInstance) -> None:
    days = Settings().retention_days
    ages = [timedelta(days=days + 2), timedelta(days=days - 2)]
    with connect(installation.database_url) as connection:
        with connection.transaction():
            land_transactions(
                connection,
                [transaction(txid=f"{n:064x}", seen_at=utc_now() - age, source="bulk") for n, age in enumerate(ages)],
            )
        job = build_defs(Settings()).resolve_job_def("maintenance")
        result = job.execute_in_process(instance=dagster_instance)
        assert result.success
        assert connection.execute("SELECT count(*) FROM transactions").fetchone() == (1,)
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = {name: value.value for name, value in output.event_specific_data.metadata.items()}
    assert metadata["rows"] == 1
    assert "| transactions | 1 | 0 |" in str(metadata["dropped"])
