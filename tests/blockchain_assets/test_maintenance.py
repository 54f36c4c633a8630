"""The daily maintenance drops what is older than the retention, and says what it dropped."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from blockchain_assets.definitions import build_defs
from blockchain_assets.maintenance import drop_compute_logs
from tests.builders import transaction
from tests.conftest import Installation
from txwatch.clock import utc_now, window_key
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.history_start import as_window, record_history_start
from txwatch.store.retention import CONFIRMING_DAYS, drop_run_records, expiry
from txwatch.store.transactions import land_transactions


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """Dagster has its tables."""
    return prepared


def test_it_reports_what_it_dropped_and_where_the_history_begins_now(
    installation: Installation, dagster_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TXWATCH_HISTORY_START")
    days = Settings().retention_days
    began = utc_now()
    ages = [timedelta(days=n) for n in (days + 2, days - 2, *range(CONFIRMING_DAYS))]
    with connect(installation.database_url) as connection:
        record_history_start(connection, began - timedelta(days=days + 9))
        with connection.transaction():
            land_transactions(
                connection,
                [transaction(txid=f"{n:064x}", seen_at=utc_now() - age, source="bulk") for n, age in enumerate(ages)],
            )
        job = build_defs(Settings()).resolve_job_def("maintenance")
        result = job.execute_in_process(instance=dagster_instance)
        assert result.success
        assert connection.execute("SELECT count(*) FROM transactions").fetchone() == (len(ages) - 1,)
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = {name: value.value for name, value in output.event_specific_data.metadata.items()}
    assert metadata["rows"] == 1
    assert "| transactions | 1 | 0 |" in str(metadata["dropped"])
    assert metadata["first_window_was"] == window_key(as_window(began - timedelta(days=days + 9)))
    assert metadata["first_window"] in {window_key(expiry(now, days)) for now in (began, utc_now())}


def test_runs_their_events_and_what_they_printed_go_and_what_came_last_of_each_asset_stays(
    database_url: str, dagster_instance: dg.DagsterInstance
) -> None:
    @dg.asset
    def promoted() -> None:
        print("printed")

    @dg.op
    def other() -> None:
        print("printed")

    @dg.job(executor_def=dg.in_process_executor)
    def plain() -> None:
        other()

    asset_job = dg.Definitions(assets=[promoted], jobs=[dg.define_asset_job("promote", [promoted])])
    runs = {
        name: job.execute_in_process(instance=dagster_instance).run_id
        for name, job in [
            ("first", asset_job.resolve_job_def("promote")),
            ("last", asset_job.resolve_job_def("promote")),
            ("plain", plain),
            ("recent", plain),
        ]
    }
    started = dagster_instance.create_run_for_job(plain, status=dg.DagsterRunStatus.STARTED).run_id
    moment = utc_now()
    old = moment - timedelta(days=100)
    printed = Path(dagster_instance.storage_directory())
    assert all((printed / run).exists() for run in runs.values())
    with connect(database_url) as connection:
        for run in (runs["first"], runs["last"], runs["plain"], started):
            naive = old.replace(tzinfo=None)
            connection.execute("UPDATE dagster.event_logs SET timestamp = %s WHERE run_id = %s", [naive, run])
            connection.execute("UPDATE dagster.runs SET update_timestamp = %s WHERE run_id = %s", [naive, run])
            for path in [printed / run, *(printed / run).rglob("*")] if run != started else []:
                os.utime(path, (old.timestamp(), old.timestamp()))
        dropped = list(drop_run_records(connection, moment - timedelta(days=90), moment - timedelta(days=14), batch=3))
    left = {run for run in runs.values() if dagster_instance.has_run(run)}
    assert left == {runs["last"], runs["recent"]}
    assert dagster_instance.has_run(started), "a run that has not ended"
    newest = dagster_instance.get_latest_materialization_event(dg.AssetKey("promoted"))
    assert newest is not None
    assert newest.run_id == runs["last"]
    assert len(dagster_instance.fetch_materializations(dg.AssetKey("promoted"), limit=9).records) == 1
    assert dagster_instance.all_logs(runs["recent"])
    types = {event.dagster_event.event_type for event in dagster_instance.all_logs(runs["last"]) if event.dagster_event}
    assert dg.DagsterEventType.ASSET_MATERIALIZATION in types
    assert dg.DagsterEventType.RUN_SUCCESS not in types
    assert sum(expired.rows for expired in dropped) > 0

    assert drop_compute_logs(dagster_instance, moment - timedelta(days=14)) == 3
    assert [run for run in runs.values() if (printed / run).exists()] == [runs["recent"]]


def test_logs_of_a_run_that_cannot_be_removed_hold_up_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = utc_now() - timedelta(days=100)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        printed = Path(instance.storage_directory())
        for run in ("a", "b", "c"):
            (printed / run).mkdir(parents=True)
            (printed / run / "out").symlink_to(tmp_path / "nowhere")
            for path in (printed / run / "out", printed / run):
                os.utime(path, (long_ago.timestamp(), long_ago.timestamp()), follow_symlinks=False)
        remove = shutil.rmtree

        def rmtree(folder: Path) -> None:
            if folder.name == "b":
                raise PermissionError(13, "Permission denied", str(folder))
            remove(folder)

        monkeypatch.setattr(shutil, "rmtree", rmtree)
        assert drop_compute_logs(instance, utc_now() - timedelta(days=14)) == 2
        monkeypatch.undo()
        assert [folder.name for folder in printed.iterdir()] == ["b"]
