"""A day is archived by a run of its own, compared with the database, and given up by the maintenance."""

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from blockchain_assets.definitions import build_defs
from sensors.archive import archive_sensor
from tests.archive.filled import DAY, drop_all, fill_day
from tests.builders import transaction
from tests.conftest import HISTORY_START, Installation
from tests.materializing import metadata
from txwatch.archive.datasets import ARCHIVED
from txwatch.archive.days import day_span, read_days
from txwatch.clock import utc_now, window_range
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.history_start import HistoryStart
from txwatch.store.retention import CONFIRMING_DAYS
from txwatch.store.transactions import land_transactions

ASSETS = {"transactions_archive": 40, "features_archive": 40, "scores_archive": 80}


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """Dagster has its tables."""
    return prepared


@pytest.fixture(scope="module")
def history_start() -> datetime:
    """The first partition is the day that is archived."""
    return HISTORY_START


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TXWATCH_ARCHIVE", str(tmp_path / "archive"))
    return tmp_path / "archive"


def confirm_the_clock(connection: Connection) -> None:
    """A transaction on each day of the last week."""
    days = [utc_now() - timedelta(days=n, minutes=1) for n in range(CONFIRMING_DAYS)]
    with connection.transaction():
        land_transactions(
            connection, [transaction(txid=f"{n:064x}", seen_at=day, source="bulk") for n, day in enumerate(days)]
        )


def run(instance: dg.DagsterInstance, day: str) -> dg.ExecuteInProcessResult:
    job = build_defs(Settings()).resolve_job_def("archive")
    return job.execute_in_process(instance=instance, partition_key=day, raise_on_error=False)


def test_a_day_is_asked_for_archived_checked_and_given_up(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    sensor = archive_sensor(HISTORY_START)

    def ask() -> dg.SensorResult | dg.SkipReason:
        resources = build_defs(Settings()).resources or {}
        context = dg.build_sensor_context(instance=dagster_instance, resources={"database": resources["database"]})
        asked = sensor(context)
        assert isinstance(asked, dg.SensorResult | dg.SkipReason)
        return asked

    assert isinstance(ask(), dg.SkipReason)
    with connect(installation.database_url) as connection:
        fill_day(connection)
        connection.cursor().executemany(
            "INSERT INTO scored_windows (window_start, model_version) VALUES (%s, '1')",
            [(window,) for window in window_range(*day_span(DAY))],
        )
    asked = ask()
    assert isinstance(asked, dg.SensorResult)
    assert [request.partition_key for request in asked.run_requests or ()] == [DAY.isoformat()]

    result = run(dagster_instance, DAY.isoformat())
    assert result.success
    for asset, rows in ASSETS.items():
        figures = metadata(result, asset)
        assert (figures["dagster/row_count"], figures["rows_only_here"]) == (rows, 0)
        assert Path(figures["file"]).stat().st_size == figures["bytes"]
    passed = [check.passed for check in result.get_asset_check_evaluations()]
    assert passed == [True, True, True]
    assert isinstance(ask(), dg.SkipReason), "it is archived"

    with connect(installation.database_url) as connection:
        fill_day(connection, rows=1, seed=2)
        assert isinstance(ask(), dg.SkipReason), "it was asked for a while ago"
        run(dagster_instance, DAY.isoformat())
        assert all(one.complete for one in read_days(connection))

        confirm_the_clock(connection)
        job = build_defs(Settings()).resolve_job_def("maintenance")
        given_up = job.execute_in_process(instance=dagster_instance)
        assert given_up.success
        left = [scalar(connection, f"SELECT count(*) FROM {one.table}") for one in ARCHIVED.values()]  # type: ignore[arg-type] # noqa: S608
        assert left == [CONFIRMING_DAYS, 0, 0]
        again = run(dagster_instance, DAY.isoformat())
        assert metadata(again, "transactions_archive")["rows_only_here"] == 41, "what only the archive has stays in it"


def test_a_day_that_cannot_be_archived_stays_and_the_maintenance_says_so(
    installation: Installation, dagster_instance: dg.DagsterInstance, archive: Path
) -> None:
    archive.write_text("no folder")
    with connect(installation.database_url) as connection:
        drop_all(connection)
        fill_day(connection, (utc_now() - timedelta(days=200)).date(), rows=5)
        confirm_the_clock(connection)
        result = build_defs(Settings()).resolve_job_def("maintenance").execute_in_process(instance=dagster_instance)
        assert scalar(connection, "SELECT count(*) FROM transactions") == 5 + CONFIRMING_DAYS, "those of that day too"
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    shown = {name: value.value for name, value in output.event_specific_data.metadata.items()}
    assert str(shown["kept"]).count("Not a directory") == 3


def test_a_day_whose_windows_are_no_partitions_any_more_is_archived_by_hand_and_by_a_backfill(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    history = HistoryStart(HISTORY_START + timedelta(days=30), HISTORY_START)
    with connect(installation.database_url) as connection:
        drop_all(connection)
        fill_day(connection)
    defs = build_defs(Settings(), history=history)
    job = defs.resolve_job_def("archive")
    result = job.execute_in_process(instance=dagster_instance, partition_key=DAY.isoformat())
    assert result.success
    assert metadata(result, "transactions_archive")["dagster/row_count"] == 40

    graph = defs.resolve_asset_graph()
    mapped = graph.get(dg.AssetKey("transactions_archive")).partition_mappings[dg.AssetKey("transactions")]
    days, windows = (graph.get(dg.AssetKey(name)).partitions_def for name in ("transactions_archive", "transactions"))
    assert days is not None
    assert windows is not None
    wanted = days.subset_with_partition_keys([DAY.isoformat()])
    found = mapped.get_upstream_mapped_partitions_result_for_partitions(wanted, days, windows, utc_now())
    assert found.required_but_nonexistent_subset.is_empty, "a backfill of the day would fail"
