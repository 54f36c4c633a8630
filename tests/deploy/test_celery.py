"""A backfill of a simulated day on two workers, of which one is lost half-way, gives what one machine gives."""

import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import dagster as dg
import httpx
import psycopg
import pytest
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from blockchain_assets.definitions import build_defs
from tests.conftest import database_named
from tests.deploy.compose import PROJECT
from tests.deploy.processes import Processes, quiet_environment
from tests.ports import free_port
from tests.registering import registered
from tests.waiting import wait_until
from txwatch.clock import utc_now, window_key, window_range, window_start
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import train
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.migrate import migrate
from txwatch.system.environment import system_environment
from txwatch.system.history import land_history
from txwatch.system.launch import Preparation

pytestmark = pytest.mark.soak

END = window_start(utc_now())
"""Training takes the latest features, so the day has just ended."""
DAY = END - timedelta(days=1)
RATE = 0.4
"""Transactions a second: a day that is long rather than full."""
WINDOWS_PER_RUN = 12
SLOTS = 2
START_SECONDS, BACKFILL_SECONDS = 120, 1200
CONTEXT = ["network_baseline", "address_activity"]
SCORES = ["transaction_features", "transaction_scores"]
COMPARED = {
    "transaction_features": "to_jsonb(t) - 'computed_at'",
    "transaction_scores": "to_jsonb(t) - 'scored_at'",
}

LAUNCH = """
mutation ($backfill: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfill) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"


@dataclass(frozen=True)
class Site:
    """One installation of the test: its database, and the environment of its processes."""

    database_url: str
    home: Path
    environment: dict[str, str]

    def rows(self) -> dict[str, list[str]]:
        """What is compared, row by row."""
        with psycopg.connect(self.database_url) as connection:
            return {
                table: [row[0] for row in connection.execute(f"SELECT ({what})::text FROM {table} AS t ORDER BY 1")]  # type: ignore[arg-type]  # noqa: S608
                for table, what in COMPARED.items()
            }


class Cluster(NamedTuple):
    """Several machines at work: their processes, Dagster's instance, and its API."""

    processes: Processes
    instance: dg.DagsterInstance
    graphql: str


def site(database_url: str, home: Path, **settings: str) -> Site:
    home.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(quiet_environment()) - {"TXWATCH_DAGSTER_YAML"}:
            patch.delenv(name)
        environment = system_environment(
            home, database_url, TXWATCH_HISTORY_START=DAY.isoformat(), PYTHONPATH=str(PROJECT), **settings
        )
    return Site(database_url, home, environment)


@contextmanager
def working_at(place: Site) -> Iterator[dg.DagsterInstance]:
    """This process as one of the site's, with the site's instance."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (place.environment | {"MLFLOW_TRACKING_URI": ""}).items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(place.environment["DAGSTER_HOME"]) as instance:
            yield instance


def materialize(instance: dg.DagsterInstance, assets: list[str], **tags: str) -> None:
    """In this process; of the whole day, unless the assets have no windows."""
    job = build_defs(Settings()).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(asset) for asset in assets]
    result = job.execute_in_process(instance=instance, asset_selection=keys, tags=tags, raise_on_error=True)
    assert result.success


def whole_day() -> dict[str, str]:
    windows = window_range(DAY, END)
    return {
        "dagster/asset_partition_range_start": window_key(windows[0]),
        "dagster/asset_partition_range_end": window_key(windows[-1]),
    }


@pytest.fixture(scope="module")
def one_machine(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A day landed, featured and scored by one process."""
    with warnings.catch_warnings():
        # They warn of themselves while they are imported, which is no test's business.
        warnings.simplefilter("ignore")
        for module in "dagster_mlflow", "mlflow.pyfunc", "mlflow.sklearn", "feast", "skops.io":
            import_module(module)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE celery_one")
    url = database_named(server_url, "celery_one")
    migrate(url)
    place = site(url, tmp_path_factory.mktemp("one"))
    Preparation(place.environment, place.home / "logs").wait()
    land_history(url, Simulator("2024-03", seed=11, start=DAY, rate=RATE), END)
    with working_at(place) as instance:
        materialize(instance, [*CONTEXT, "transaction_features"], **whole_day())
        promote_a_model(url, place.home)
        materialize(instance, ["transaction_scores"], **whole_day())
    return place


def promote_a_model(url: str, home: Path) -> None:
    """Trained on the day. How good it is, is no matter here."""
    with connect(url) as connection:
        features = read_recent_features(connection, DAY)
    trained = train(features, DAY, END, alerts_per_hour=12, whale_btc=500, seed=1)
    registry = ModelRegistry.of(home, url, None)
    registry.promote(registered(registry, trained, features), {})


def copy_without_scores(server_url: str, name: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'celery_one'")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE celery_one")  # type: ignore[arg-type]
    url = database_named(server_url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE transaction_features, transaction_scores")
    return url


@contextmanager
def cluster(url: str, folder: Path, workers: Sequence[str], slots: int) -> Iterator[Cluster]:
    """Broker, workers and Dagster's processes, each machine with a home of its own, on a database."""
    broker_port, code_port, ui_port = free_port(), free_port(), free_port()
    shared = {
        "TXWATCH_BROKER_URL": f"redis://127.0.0.1:{broker_port}/0",
        "TXWATCH_BACKFILL_WINDOWS": str(WINDOWS_PER_RUN),
        "TXWATCH_CODE_PORT": str(code_port),
    }
    head = machine(url, folder / "head", shared)
    with Processes(folder / "logs") as processes:
        redis = ["redis-server", "--port", str(broker_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        processes.start("redis", redis, {"PATH": "/usr/bin:/bin"}, folder)
        for name in workers:
            worker = [
                sys.executable,
                "-m",
                "blockchain_assets.platform.celery_worker",
                "--name",
                name,
                "--slots",
                str(slots),
            ]
            processes.start(name, worker, machine(url, folder / name, shared).environment, folder)
        start_dagster(processes, head, code_port, ui_port, folder)
        graphql = f"http://127.0.0.1:{ui_port}/graphql"
        wait_until(lambda: answers(graphql), "the web server", START_SECONDS, 0.5)
        for name in workers:
            wait_until(partial(is_ready, processes.log(name)), f"worker {name}", START_SECONDS, 0.5)
        with working_at(head) as instance:
            instance.event_log_storage.set_concurrency_slots("scoring", slots * len(workers))
            yield Cluster(processes, instance, graphql)


def test_a_backfill_over_two_workers_equals_one_machine_though_one_is_lost(
    server_url: str, one_machine: Site, tmp_path: Path
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    url = copy_without_scores(server_url, "celery_two")
    with cluster(url, tmp_path, ["a", "b"], SLOTS) as (processes, instance, graphql):
        began = monotonic()
        backfill_id = launch_backfill(graphql)
        total = len(window_range(DAY, END)) // WINDOWS_PER_RUN
        wait_until(lambda: finished(instance) >= total // 3, "a third of the runs", BACKFILL_SECONDS, 0.5)
        wait_until(lambda: running_on(instance, processes.log("b")), "a run on b", BACKFILL_SECONDS, 0.2)
        lost = running_on(instance, processes.log("b"))
        processes.kill("b")
        wait_until(lambda: status(graphql, backfill_id) != "REQUESTED", "the backfill", BACKFILL_SECONDS, 1.0)
        took = monotonic() - began

        assert status(graphql, backfill_id) == "COMPLETED_SUCCESS", processes.tail("daemon")
        runs = instance.get_runs()
        done = [run for run in runs if run.status is dg.DagsterRunStatus.SUCCESS]
        by_worker = Counter(name for name in ("a", "b") for run in done if was_taken(run, processes.log(name)))
        assert by_worker["a"] > by_worker["b"] > 0
        failed = {run.run_id for run in runs if run.status is dg.DagsterRunStatus.FAILURE}
        assert lost & failed, "the lost worker's runs were not noticed"
    print(f"{total} runs in {took:.0f} s, by worker {dict(by_worker)}, lost {len(lost & failed)}")
    assert_same_rows(one_machine, url)


def test_two_workers_are_faster_than_one(server_url: str, one_machine: Site, tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    took = {}
    for workers in (["a"], ["a", "b"]):
        url = copy_without_scores(server_url, f"celery_speed_{len(workers)}")
        with cluster(url, tmp_path / str(len(workers)), workers, 1) as (processes, instance, graphql):
            backfill_id = launch_backfill(graphql)
            wait_until(lambda: status(graphql, backfill_id) != "REQUESTED", "the backfill", BACKFILL_SECONDS, 1.0)  # noqa: B023
            assert status(graphql, backfill_id) == "COMPLETED_SUCCESS", processes.tail("daemon")
            records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        begun = [record for record in records if record.start_time and "dagster/backfill" in record.dagster_run.tags]
        # From the first run's start: how long Dagster takes to submit the runs is the same for any number of workers.
        took[len(workers)] = max(r.end_time or 0 for r in begun) - min(r.start_time or 0 for r in begun)
        assert_same_rows(one_machine, url)
    print(f"one worker {took[1]:.1f} s, two {took[2]:.1f} s: {took[1] / took[2]:.2f} times as fast")
    assert took[2] < took[1]


def assert_same_rows(one_machine: Site, url: str) -> None:
    here, there = one_machine.rows(), Site(url, Path(), {}).rows()
    assert {table: len(rows) for table, rows in there.items()} == {table: len(rows) for table, rows in here.items()}
    assert there == here
    assert len(here["transaction_scores"]) > 20_000


def is_ready(log: Path) -> bool:
    return " ready." in log.read_text()


def machine(url: str, home: Path, shared: dict[str, str]) -> Site:
    """A machine of several, with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TXWATCH_DAGSTER_YAML", "deploy/celery/dagster.yaml")
        return site(url, home, **shared)


def start_dagster(processes: Processes, head: Site, code_port: int, ui_port: int, folder: Path) -> None:
    workspace = str(PROJECT / "workspace.yaml")
    code = [
        "-m",
        "dagster",
        "api",
        "grpc",
        "-m",
        "tests.deploy.backfills_only",
        "-h",
        "127.0.0.1",
        "-p",
        str(code_port),
    ]
    processes.start("code", [sys.executable, *code, "--location-name", "txwatch"], head.environment, folder)
    check = [sys.executable, "-m", "dagster", "api", "grpc-health-check", "-p", str(code_port)]
    wait_until(
        lambda: subprocess.run(check, env=head.environment, capture_output=True, check=False).returncode == 0,
        "the code server",
        START_SECONDS,
    )
    ui = ["-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(ui_port), "-w", workspace]
    processes.start("ui", [sys.executable, *ui], head.environment, folder)
    daemon = ["-m", "dagster._daemon", "run", "-w", workspace]
    processes.start("daemon", [sys.executable, *daemon], head.environment, folder)


def answers(graphql: str) -> bool:
    try:
        return httpx.post(graphql, json={"query": "{ version }"}, timeout=10).is_success
    except httpx.TransportError:
        return False


def ask(graphql: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(graphql, json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


def launch_backfill(graphql: str) -> str:
    names = [window_key(window) for window in window_range(DAY, END)]
    parameters = {"assetSelection": [{"path": [asset]} for asset in SCORES], "partitionNames": names}
    answer = ask(graphql, LAUNCH, backfill=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def status(graphql: str, backfill_id: str) -> str:
    return str(ask(graphql, BACKFILL, id=backfill_id)["partitionBackfillOrError"]["status"])


def finished(instance: dg.DagsterInstance) -> int:
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS], tags={"dagster/backfill": list(backfills(instance))}
    )
    return instance.get_runs_count(filters)


def backfills(instance: dg.DagsterInstance) -> list[str]:
    return [backfill.backfill_id for backfill in instance.get_backfills()]


def running_on(instance: dg.DagsterInstance, worker_log: Path) -> set[str]:
    """The runs that have started and whose task this worker has taken."""
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return {run.run_id for run in runs if was_taken(run, worker_log)}


def was_taken(run: dg.DagsterRun, worker_log: Path) -> bool:
    """Whether the worker that writes this log has taken the run's task."""
    return f"[{run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)}] received" in worker_log.read_text()
