"""A year of windows in a real Dagster instance: pages, sensors and automation before the start moves, and after.

A young instance has a day of windows, the other one a year, each with what Dagster writes for it: the run's plan and
the materialization, of every asset by window. A real code server, web server and workspace answer for both. Then the
start moves after the retention of 90 days, while the events of the whole year are still in the log. Pages are asked of
one asset, for all have the same windows. The baseline is the young instance in the same run, the limit the year's.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any
from unittest.mock import patch

import dagster as dg
import httpx
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from benchmarks.harness import Bench, Measurement
from blockchain_assets import keys
from blockchain_assets.definitions import build_defs
from blockchain_assets.partitions import carry_over_status, oldest_asked_for
from blockchain_assets.platform.instance import prepare_instance
from sensors.promotion import promotion_sensor
from tests.materializing import range_tags
from tests.ports import free_port
from tests.waiting import answers, wait_until
from txwatch.clock import WINDOW, utc_now, window_key, window_start
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect
from txwatch.store.history_start import move_history_start, read_history_start, record_history_start
from txwatch.system.environment import system_environment

YOUNG_DAYS, YEAR_DAYS, RETENTION_DAYS = 1, 365, 90
TIMES = 5
PAGE_SECONDS, TICK_SECONDS = 2.0, 1.0
SENSORS = ("landing_sensor", "scoring_sensor", "alert_sensor", "freshness_sensor")

ASSET = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  id partitionStats { numMaterialized numFailed numPartitions numMaterializing }
  assetMaterializations(limit: 1) { timestamp partition }
} } }
"""
KEYS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  id partitionKeysByDimension { partitionKeys }
} } }
"""
PARTITIONS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  id partitionKeysByDimension { name type partitionKeys }
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } } }
} } }
"""
"""What the asset's page and its partitions' page ask the web server for, and the keys alone."""

FILL = """
INSERT INTO dagster.event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
SELECT run_id, replace(event, %(like)s, key), dagster_event_type, at + interval '10 minutes', step_key, asset_key, key
FROM (
    SELECT at AT TIME ZONE 'UTC' AS at, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24:MI') AS key
    FROM generate_series(%(first)s::timestamptz, %(last)s, interval '5 minutes') AS at
) AS windows
CROSS JOIN dagster.event_logs
WHERE partition = %(like)s
ORDER BY at, id
"""


@dataclass
class Site:
    """An instance with windows from `start` on, and the servers of its code and its pages."""

    instance: dg.DagsterInstance
    connection: Connection
    workspace: WorkspaceProcessContext
    pages: str

    def seconds(self) -> dict[str, float]:
        """What each thing takes, in seconds."""
        return {
            "location": _timed(lambda: self.workspace.refresh_code_location("txwatch")),
            "asset_page": _timed(lambda: self.ask(ASSET)),
            "partitions_page": _timed(lambda: self.ask(PARTITIONS)),
            "automation": self.automation(),
            **{name: self.tick(name) for name in SENSORS},
        }

    def ask(self, query: str) -> dict[str, Any]:
        """What the web server answers of the scores."""
        body = {"query": query, "variables": {"key": {"path": keys.TRANSACTION_SCORES.path}}}
        answer = httpx.post(f"{self.pages}/graphql", json=body, timeout=600).raise_for_status().json()
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"]["assetNodeOrError"])

    def tick(self, sensor: str) -> float:
        """A tick in the code server, as the daemon asks for it, with a cursor of the tick before."""
        location = self.workspace.create_request_context().get_code_location("txwatch")
        [repository] = location.get_repositories().values()
        cursor: str | None = None

        def ticked() -> None:
            nonlocal cursor
            with suppress(DagsterUserCodeUnreachableError):  # Dagster ends a tick after a minute
                data = location.get_sensor_execution_data(
                    self.instance, repository.handle, sensor, None, None, cursor, None, None
                )
                cursor = data.cursor or cursor

        return _timed(ticked)

    def automation(self) -> float:
        """An evaluation of the conditions, with the cursor of the one before."""
        defs, cursor = build_defs(Settings()), None

        def evaluated() -> None:
            nonlocal cursor
            result = dg.evaluate_automation_conditions(
                defs, self.instance, promotion_sensor.asset_selection, cursor=cursor
            )
            cursor = result.cursor

        return _timed(evaluated)

    def partitions(self) -> int:
        """How many an asset has, as the pages say."""
        [dimension] = self.ask(KEYS)["partitionKeysByDimension"]
        return len(dimension["partitionKeys"])

    def move(self) -> None:
        """What the nightly maintenance does, and until the workspace and the web server have noticed."""
        move_until_there(self.connection, self.instance)
        start = read_history_start(self.connection)
        assert start is not None

        def begins() -> bool:
            graph = self.workspace.create_request_context().asset_graph
            partitions = graph.get(keys.ALERTS).partitions_def
            return partitions is not None and partitions.get_first_partition_key() == window_key(start.first_window)

        wait_until(begins, "the workspace notices the move")
        days = (utc_now() - start.first_window) // WINDOW
        wait_until(lambda: self.partitions() <= days + 1, "the web server notices the move", look_every=1.0)


def move_until_there(connection: Connection, instance: dg.DagsterInstance) -> None:
    """Night after night until nothing moves: there are no rows, so that each moves by a week."""
    was, start = None, None
    while was is None or was != start:
        was, start = move_history_start(connection, utc_now(), RETENTION_DAYS, None, oldest_asked_for(instance))
        if start > was:
            carry_over_status(instance, was, start)


def measure(bench: Bench) -> Iterator[Measurement]:
    """Seconds of each thing, in the instance of a year before and after the move, against the young one."""
    days = max(YOUNG_DAYS + RETENTION_DAYS + 10, bench.size(YEAR_DAYS))
    with _site(bench, "young", YOUNG_DAYS) as site:
        young = site.seconds()
    with _site(bench, "year", days) as site:
        full, before = site.partitions(), site.seconds()
        site.move()
        first = _once(lambda: site.ask(ASSET))
        left, after = site.partitions(), site.seconds()
    why = f"{left:,} partitions an asset after the move, of {full:,}; young: {288 * YOUNG_DAYS}"
    yield Measurement("partitions_of_a_year", full, "partitions", limit=100_000, why="what Dagster advises at most")
    yield Measurement("partitions_after_the_move", left, "partitions", limit=100_000, at_most=30_000, why=why)
    for name, seconds in before.items():
        yield Measurement(f"year_{name}", seconds, "s", baseline=young[name], why=f"{full:,} partitions an asset")
    for name, seconds in after.items():
        most = TICK_SECONDS if name in SENSORS else PAGE_SECONDS
        yield Measurement(
            f"moved_{name}", seconds, "s", baseline=young[name], limit=before[name], at_most=most, why=why
        )
    yield Measurement("moved_first_asset_page", first, "s", baseline=young["asset_page"], at_most=PAGE_SECONDS, why=why)


@contextmanager
def _site(bench: Bench, name: str, days: int) -> Iterator[Site]:
    url, code, web = bench.database(), free_port(), free_port()
    home = bench.folder / f"partitions-{name}"
    environment = system_environment(home, url, TXWATCH_CODE_PORT=str(code))
    server = ("-m", "blockchain_assets.platform.code_server", "--runs-elsewhere", "-h", "127.0.0.1", "-p", str(code))
    pages = ("-m", "blockchain_assets.platform.webserver", "-h", "127.0.0.1", "-p", str(web), "-w", "workspace.yaml")
    newest = window_start(utc_now()) - 2 * WINDOW
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment))
        connection = stack.enter_context(connect(url))
        record_history_start(connection, newest - days * timedelta(days=1))
        instance = stack.enter_context(dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]))
        prepare_instance(instance)
        _fill(connection, instance, newest, days)
        stack.enter_context(bench.process(*server, **environment))
        target = GrpcServerTarget(host="127.0.0.1", port=code, socket=None, location_name="txwatch")
        wait_until(lambda: _answers(target), "the code server answers")
        workspace = stack.enter_context(WorkspaceProcessContext(instance, target))
        stack.enter_context(bench.process(*pages, **environment))
        wait_until(lambda: answers(f"http://127.0.0.1:{web}/server_info"), "the web server answers", look_every=0.5)
        yield Site(instance, connection, workspace, f"http://127.0.0.1:{web}")


def _fill(connection: Connection, instance: dg.DagsterInstance, newest: datetime, days: int) -> None:
    """Write a plan and a materialization of each window: the newest by Dagster's API, the others in its likeness."""
    job = build_defs(Settings()).resolve_job_def("score_windows")
    run = instance.create_run_for_job(job, tags=range_tags([newest]), status=dg.DagsterRunStatus.SUCCESS)
    for key in keys.WITH_WINDOWS:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=window_key(newest), metadata={"dagster/partition_row_count": 1_650})
        )
    like = window_key(newest)
    connection.execute(
        "UPDATE dagster.event_logs SET run_id = %s WHERE partition = %s AND run_id = ''", [run.run_id, like]
    )
    first = newest - days * timedelta(days=1)
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(FILL, {"like": like, "first": first, "last": newest - WINDOW})
    connection.execute("VACUUM ANALYZE dagster.event_logs")
    for key in keys.WITH_WINDOWS:  # Dagster keeps the newest event of an asset apart
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=like))


def _answers(target: GrpcServerTarget) -> bool:
    [origin] = target.create_origins()
    try:
        return bool(origin.create_client().get_server_id(timeout=2))
    except Exception:
        return False


def _timed(action: Callable[[], object]) -> float:
    """The median of the seconds that it takes, after one time that does not count."""
    action()
    return median(_once(action) for _ in range(TIMES))


def _once(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
