"""The code location as Dagster loads it: light, complete, as described in `graph.txt`, and without secrets."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from blockchain_assets import keys
from blockchain_assets.definitions import build_defs, default_resources
from blockchain_assets.partitions import recorded_start
from tests.conftest import HISTORY_START
from txwatch.clock import WINDOW
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.history_start import STEP_DAYS, HistoryStart, move_history_start
from txwatch.system.environment import PROJECT
from txwatch.system.launch import prepare_database

GRAPH = Path(__file__).with_name("graph.txt")
HEAVY = ("mlflow", "feast", "evidently", "sklearn")
START = HistoryStart(HISTORY_START, HISTORY_START)


def loaded() -> dg.Definitions:
    return build_defs(Settings(), history=START)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is there: once they know where the history begins, definitions load without a network or any file."""
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TXWATCH_HISTORY_START", HISTORY_START.isoformat())
    monkeypatch.setenv("TXWATCH_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:sesame-open@127.0.0.1:1/nowhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:sesame-shut@127.0.0.1:1")


def test_loading_them_imports_no_heavy_library(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    code = (
        "import json, sys\n"
        "from dagster._core.workspace.autodiscovery import loadable_targets_from_loaded_module as targets\n"
        "import blockchain_assets.definitions as module\n"
        "(target,) = targets(module)\n"
        "repository = target.target_definition().get_repository_def()\n"
        "repository.load_all_definitions()\n"
        "print(json.dumps([len(repository.asset_graph.get_all_asset_keys()), sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    assets, modules = json.loads(done.stdout)
    assert assets == 14
    assert [module for module in modules if module.split(".")[0] in HEAVY] == []


def test_dagster_can_load_them() -> None:
    dg.Definitions.validate_loadable(loaded())


def test_where_workers_stand_by_for_each_other_dagster_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {sensor.name for sensor in loaded().sensors or ()}
    monkeypatch.setenv("TXWATCH_KEEPER", "false")
    assert names - {sensor.name for sensor in loaded().sensors or ()} == {"keeper_sensor"}


def test_without_an_archive_nothing_is_archived(monkeypatch: pytest.MonkeyPatch) -> None:
    with_archive = set(described(loaded()))
    monkeypatch.delenv("TXWATCH_ARCHIVE")
    less = with_archive - set(described(loaded()))
    assert less
    assert [line for line in less if "archive" not in line and "backtest" not in line] == []


def test_they_are_as_described() -> None:
    """A line is missing or too much: if that is meant, change it in graph.txt."""
    assert list(described(loaded())) == GRAPH.read_text().splitlines()


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_no_page_of_the_ui_can_show_a_secret() -> None:
    snapshot = dg.serialize_value(RepositorySnap.from_def(loaded().get_repository_def()))
    assert "sesame-open" in Settings().require_database_url()
    assert "sesame" not in snapshot


def test_no_address_and_no_secret_is_a_runs_configuration() -> None:
    """Whoever could set them would have the token sent to a server of theirs."""
    settings = Settings()
    defs = build_defs(settings, history=START)
    opened = dg.Definitions(resources=default_resources(settings)).get_repository_def().get_top_level_resources()
    tried = 0
    for job in defs.get_repository_def().get_all_jobs():
        assert dg.validate_run_config(job, {}) is not None
        for name in set(job.resource_defs) & set(default_resources(settings)):
            assert not fields_of(job.resource_defs[name]), name
            for field in fields_of(opened[name]):
                tried += 1
                for value in ("http://evil.example", {"env": "TELEGRAM_BOT_TOKEN"}):
                    with pytest.raises(dg.DagsterInvalidConfigError):
                        dg.validate_run_config(job, {"resources": {name: {"config": {field: value}}}})
    assert tried > 20


def test_a_run_with_a_foreign_address_of_telegram_does_not_start(dagster_instance: dg.DagsterInstance) -> None:
    job = loaded().resolve_job_def("deliver_alerts")
    stolen = {"api_url": "http://127.0.0.1:9", "token": {"env": "TELEGRAM_BOT_TOKEN"}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=r"unexpected config entries .*api_url"):
        job.execute_in_process({"resources": {"telegram": {"config": stolen}}}, instance=dagster_instance)
    assert dagster_instance.get_runs_count() == 0


def fields_of(resource: dg.ResourceDefinition) -> list[str]:
    """What a run's configuration may set of it."""
    return list(getattr(resource.config_schema.config_type, "fields", {}))


def described(defs: dg.Definitions) -> Iterator[str]:
    """The graph in lines of text: one for each thing that could be changed alone."""
    graph, repository = defs.resolve_asset_graph(), defs.get_repository_def()
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        name = key.to_user_string()
        yield f"asset {name}: group {node.group_name}"
        yield f"asset {name}: kinds {', '.join(sorted(node.kinds))}"
        yield f"asset {name}: owners {', '.join(node.owners)}"
        yield f"asset {name}: pool {', '.join(node.pools or ())}"
        if isinstance(node.partitions_def, dg.TimeWindowPartitionsDefinition):
            yield f"asset {name}: partitions {node.partitions_def.cron_schedule}"
        if node.backfill_policy is not None:
            yield f"asset {name}: backfill {node.backfill_policy.policy_type.value}"
        yield f"asset {name}: code version {node.code_version}"
        schema = node.metadata.get("dagster/column_schema")
        if schema is not None:
            yield f"asset {name}: columns {', '.join(column.name for column in schema.columns)}"
        if node.automation_condition is not None:
            yield f"asset {name}: automation {node.automation_condition.get_label()}"
        yield from (f"asset {name}: from {parent.to_user_string()}" for parent in sorted(node.parent_keys))
        for check in sorted(node.check_keys):
            blocks = ", which blocks what follows" if graph.get_check_spec(check).blocking else ""
            yield f"asset {name}: check {check.name}{blocks}"
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            materializes = sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            yield f"job {job.name}: {', '.join(materializes) or 'no asset'}, {job.executor_def.name}"
    for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name):
        yield (
            f"schedule {schedule.name}: {schedule.job_name} at {schedule.cron_schedule} {schedule.execution_timezone},"
            f" {schedule.default_status.value}"
        )
    for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name):
        targets = ", ".join(sorted(target.job_name for target in sensor.targets)) or "no job"
        yield (
            f"sensor {sensor.name}: {sensor.sensor_type.value.lower()}, {targets},"
            f" every {sensor.minimum_interval_seconds} s, {sensor.default_status.value}"
        )
    yield f"resources: {', '.join(sorted(repository.get_top_level_resources()))}"


def test_partitions_are_five_minutes_from_the_first_window_on() -> None:
    partitions = loaded().resolve_asset_graph().get(dg.AssetKey("transactions")).partitions_def
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    first = partitions.get_first_partition_window()
    assert first is not None
    assert (first.start, first.end) == (HISTORY_START, HISTORY_START + WINDOW)


def test_machines_with_homes_of_their_own_agree_on_the_first_window(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TXWATCH_HISTORY_START")
    monkeypatch.setenv("DATABASE_URL", database_url)
    with pytest.raises(UserError, match="run txwatch migrate"):
        recorded_start(Settings())
    prepare_database(tmp_path / "one", database_url, HISTORY_START + timedelta(seconds=7))
    for home in "one", "other":
        monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / home))
        assert recorded_start(Settings()) == START
    with connect(database_url) as connection:
        move_history_start(connection, HISTORY_START + timedelta(days=100), retention_days=90)
    monkeypatch.setenv("TXWATCH_HISTORY_START", HISTORY_START.isoformat())
    moved = HistoryStart(HISTORY_START + timedelta(days=STEP_DAYS), HISTORY_START)
    assert recorded_start(Settings()) == moved, "the setting was recorded, and takes nothing back"


def test_the_archive_keeps_its_days_when_the_windows_begin_later() -> None:
    history = HistoryStart(HISTORY_START + timedelta(days=30), HISTORY_START + timedelta(hours=7))
    graph = build_defs(Settings(), history=history).resolve_asset_graph()
    firsts = {}
    for key in (*keys.WITH_WINDOWS, *keys.ARCHIVES):
        partitions = graph.get(key).partitions_def
        assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        firsts[key] = partitions.get_first_partition_key()
    assert {firsts[key] for key in keys.WITH_WINDOWS} == {"2024-04-13-00:00"}
    assert {firsts[key] for key in keys.ARCHIVES} == {"2024-03-14"}
