"""The start of the history moves under a running system: a real code server, real backfills and real runs."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from threading import Event

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.remote_asset_graph import RemoteWorkspaceAssetGraph
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.partition_status_cache import AssetStatusCacheValue
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.backfill import execute_backfill_iteration

from blockchain_assets import keys
from blockchain_assets.definitions import build_defs
from blockchain_assets.partitions import (
    RANGE_START,
    UNFINISHED_RUNS,
    carry_over_status,
    oldest_asked_for,
    window_partitions,
)
from blockchain_assets.platform.moving_start import follow_start
from sensors.alerts import alert_sensor
from sensors.promotion import promotion_sensor
from sensors.scoring import scoring_sensor
from tests.builders import T0
from tests.conftest import Installation
from tests.databases import empty_tables
from tests.materializing import range_tags
from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.clock import WINDOW, utc_now, window_key, window_range
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.history_start import HistoryStart, move_history_start, record_history_start

DAY = timedelta(days=1)
TODAY = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
START, RETENTION_DAYS = TODAY - 6 * DAY, 2
MOVED = TODAY - RETENTION_DAYS * DAY
BASELINE = keys.NETWORK_BASELINE


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """Dagster has its tables."""
    return prepared


@pytest.fixture(scope="module")
def history_start() -> datetime:
    return START


@pytest.fixture
def recorded(installation: Installation, dagster_instance: dg.DagsterInstance) -> Installation:
    """An installation whose start is recorded, and of which nobody has asked for anything."""
    with connect(installation.database_url) as connection:
        empty_tables(connection, "history_start")
        record_history_start(connection, START)
    dagster_instance.wipe()
    return installation


def move(installation: Installation, instance: dg.DagsterInstance) -> datetime:
    """What the maintenance does."""
    with connect(installation.database_url) as connection:
        return move_history_start(connection, TODAY, RETENTION_DAYS, START, oldest_asked_for(instance))[1]


class Server:
    """The code server of an installation, and a workspace that watches it, as the daemon and the web server have it."""

    def __init__(self, installation: Installation, instance: dg.DagsterInstance, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "blockchain_assets.platform.code_server", *options, "-h", "127.0.0.1"]
        self.log = (installation.home / "code.log").open("wb")
        self.process = subprocess.Popen(
            [*command, "-p", str(self.port)],
            env=installation.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.target = GrpcServerTarget(host="127.0.0.1", port=self.port, socket=None, location_name="txwatch")
        wait_until(self._answers, "the code server answers")
        self.workspace = WorkspaceProcessContext(instance, self.target)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the code server has ended"
        [origin] = self.target.create_origins()
        try:
            return bool(origin.create_client().get_server_id(timeout=2))
        except Exception:
            return False

    @property
    def graph(self) -> RemoteWorkspaceAssetGraph:
        return self.workspace.create_request_context().asset_graph

    def begins(self, key: dg.AssetKey = BASELINE) -> str | None:
        """The first partition of an asset, as pages and daemons see it."""
        partitions = self.graph.get(key).partitions_def
        assert partitions is not None
        return partitions.get_first_partition_key()

    def close(self) -> None:
        self.workspace.__exit__(None, None, None)
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        self.log.close()


@pytest.fixture
def server(recorded: Installation, dagster_instance: dg.DagsterInstance) -> Iterator[Server]:
    with closing(Server(recorded, dagster_instance)) as server:
        yield server


def ask_for(server: Server, instance: dg.DagsterInstance, name: str, windows: list[datetime]) -> None:
    """A backfill of these windows, as the page launches it."""
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id=name,
            asset_graph=server.graph,
            partition_names=[window_key(window) for window in windows],
            asset_selection=[BASELINE],
            backfill_timestamp=utc_now().timestamp(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )


def evaluate(server: Server) -> None:
    """What the backfill daemon does in a round."""
    assert [error for error in execute_backfill_iteration(server.workspace, logging.getLogger("test")) if error] == []


def execute_queued(server: Server, instance: dg.DagsterInstance, backfill: str) -> None:
    """Launch the queued runs of a backfill in the code server, and wait until they have succeeded."""
    queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED], tags={"dagster/backfill": backfill})
    for run in instance.get_runs(queued):
        instance.launch_run(run.run_id, server.workspace.create_request_context())

        def ended(run_id: str = run.run_id) -> bool:
            found = instance.get_run_by_id(run_id)
            return found is not None and found.is_finished

        wait_until(ended, "the run ends")
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.is_success, [event.message for event in instance.all_logs(run.run_id)][-5:]


def status(instance: dg.DagsterInstance, name: str) -> BulkActionStatus:
    backfill = instance.get_backfill(name)
    assert backfill is not None
    return backfill.status


@pytest.mark.filterwarnings(
    "ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning"
)  # Dagster's own
def test_it_waits_for_a_backfill_of_its_days_and_moves_under_one_of_later_days(
    recorded: Installation, dagster_instance: dg.DagsterInstance, server: Server
) -> None:
    later = window_range(MOVED + timedelta(hours=3), MOVED + timedelta(hours=4))
    ask_for(server, dagster_instance, "oldest", window_range(START, START + timedelta(minutes=15)))
    ask_for(server, dagster_instance, "later", later)
    assert move(recorded, dagster_instance) == START, "before any run is asked for"
    evaluate(server)
    assert move(recorded, dagster_instance) == START, "while its run waits"
    execute_queued(server, dagster_instance, "oldest")
    evaluate(server)
    assert status(dagster_instance, "oldest") is BulkActionStatus.COMPLETED_SUCCESS
    identity = server.workspace.create_request_context().get_code_location("txwatch")

    assert move(recorded, dagster_instance) == MOVED
    wait_until(lambda: server.begins() == window_key(MOVED), "the workspace notices the move")
    assert server.process.poll() is None
    assert identity.server_id != server.workspace.create_request_context().get_code_location("txwatch").server_id  # type: ignore[attr-defined]
    assert server.begins(keys.ALERTS) == window_key(MOVED)
    evaluate(server)
    assert status(dagster_instance, "later") is BulkActionStatus.REQUESTED, "its run was asked for before the move"
    execute_queued(server, dagster_instance, "later")
    evaluate(server)
    assert status(dagster_instance, "later") is BulkActionStatus.COMPLETED_SUCCESS
    materialized = dagster_instance.get_materialized_partitions(BASELINE)
    assert {window_key(window) for window in later} < materialized

    # Dagster counts what it knows of anew: without the windows that are gone.
    context = server.workspace.create_request_context()
    partitions = context.asset_graph.get(BASELINE).partitions_def
    assert partitions is not None
    found = dagster_instance.get_status_by_partition(BASELINE, sorted(materialized), partitions)
    known = {key for key, value in (found or {}).items() if value is not None}
    assert known == {window_key(window) for window in later}


def test_the_button_that_reloads_the_location_reads_the_start_at_once(
    recorded: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    """Of a server whose runs are elsewhere, as in Kubernetes."""
    with closing(Server(recorded, dagster_instance, "--runs-elsewhere")) as server:
        assert server.begins() == window_key(START)
        with connect(recorded.database_url) as connection:
            connection.execute("UPDATE history_start SET first_window = %s", [MOVED])
        server.workspace.reload_code_location("txwatch")
        assert server.begins() == window_key(MOVED)


@pytest.mark.usefixtures("recorded")
def test_the_oldest_window_of_runs_and_backfills_that_have_not_ended(dagster_instance: dg.DagsterInstance) -> None:
    @dg.job
    def any_job() -> None: ...

    def make(status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
        return dagster_instance.create_run_for_job(any_job, tags=tags, status=status)

    assert oldest_asked_for(dagster_instance) is None
    make(dg.DagsterRunStatus.SUCCESS, **range_tags([START]))
    make(dg.DagsterRunStatus.FAILURE, **range_tags([START]))
    make(dg.DagsterRunStatus.STARTED, **{"dagster/partition": "2024-03-14"})
    make(dg.DagsterRunStatus.STARTED)
    assert oldest_asked_for(dagster_instance) is None
    make(dg.DagsterRunStatus.STARTED, **{"dagster/partition": window_key(START + 3 * DAY)})
    assert oldest_asked_for(dagster_instance) == START + 3 * DAY
    # One that is queued needs an origin: the test above has one.
    for n, unfinished in enumerate(status for status in UNFINISHED_RUNS if status is not dg.DagsterRunStatus.QUEUED):
        make(unfinished, **range_tags([START + 2 * DAY - n * WINDOW, START + 4 * DAY]))
        assert oldest_asked_for(dagster_instance) == START + 2 * DAY - n * WINDOW
    make(dg.DagsterRunStatus.FAILURE, **range_tags([START + DAY]), **{"dagster/will_retry": "true"})
    assert oldest_asked_for(dagster_instance) == START + DAY, "it will be tried again"


@pytest.mark.usefixtures("recorded")
def test_what_dagster_knows_of_windows_is_carried_over_and_not_counted_anew(
    dagster_instance: dg.DagsterInstance,
) -> None:
    gone, kept = [START + n * WINDOW for n in range(3)], [MOVED + n * WINDOW for n in (0, 1, 5)]
    for window in [*gone, *kept]:
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization(BASELINE, partition=window_key(window)))

    def cached() -> AssetStatusCacheValue | None:
        [record] = dagster_instance.get_asset_records([BASELINE])
        return record.asset_entry.cached_status

    def look(start: datetime) -> AssetStatusCacheValue | None:
        """What a page does with the definition of this start."""
        dagster_instance.get_status_by_partition(BASELINE, [window_key(kept[0])], window_partitions(start))
        return cached()

    known = look(START)
    carry_over_status(dagster_instance, START + DAY, MOVED)
    assert cached() == known, "it is of another definition: Dagster counts"
    counted = look(MOVED)
    assert counted is not None
    assert counted != known
    look(START)
    carry_over_status(dagster_instance, START, MOVED)
    carried = cached()
    assert carried == counted
    assert look(MOVED) == carried
    subset = counted.deserialize_materialized_partition_subsets(window_partitions(MOVED))
    assert sorted(subset.get_partition_keys()) == [window_key(window) for window in kept]


@pytest.mark.usefixtures("recorded")
def test_sensors_ask_for_nothing_of_windows_that_are_gone(dagster_instance: dg.DagsterInstance) -> None:
    """Events of them are in the log, and in cursors that were written before the move."""
    gone, kept = [START + n * WINDOW for n in range(3)], [MOVED + n * WINDOW for n in range(2)]
    for key in keys.TRANSACTIONS, keys.TRANSACTION_FEATURES, keys.TRANSACTION_SCORES:
        for window in [*gone, *kept]:
            dagster_instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=window_key(window)))
    before = scoring_sensor(START)(dg.build_sensor_context(instance=dagster_instance))
    assert isinstance(before, dg.SensorResult)
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization(keys.CHAMPION_MODEL))
    scoring, alerts = scoring_sensor(MOVED), alert_sensor(MOVED)
    for sensor, cursor in ((scoring, before.cursor), (scoring, None), (alerts, None)):
        result = sensor(dg.build_sensor_context(instance=dagster_instance, cursor=cursor))
        assert isinstance(result, dg.SensorResult)
        assert {request.tags[RANGE_START] for request in result.run_requests or ()} == {window_key(MOVED)}


@pytest.mark.usefixtures("recorded")
def test_automation_goes_on_over_a_move(dagster_instance: dg.DagsterInstance) -> None:
    cursor = None

    def reports(first: datetime) -> int:
        """How many drift reports are asked for, of a system whose windows begin there."""
        nonlocal cursor
        defs = build_defs(Settings(), history=HistoryStart(first, START))
        result = dg.evaluate_automation_conditions(
            defs, dagster_instance, promotion_sensor.asset_selection, cursor=cursor
        )
        cursor = result.cursor
        return result.get_num_requested(keys.DRIFT_REPORT)

    def report(key: dg.AssetKey, partition: str | None = None) -> None:
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

    assert reports(START) == 0
    for before, after in ((START, START), (START, MOVED), (MOVED, MOVED)):
        report(keys.TRANSACTION_SCORES, window_key(START))
        report(keys.ANOMALY_MODEL)
        assert reports(before) == 0
        report(keys.CHAMPION_MODEL)
        assert reports(after) == 1
        report(keys.DRIFT_REPORT)
        assert reports(after) == 0


def test_a_start_that_cannot_be_read_or_loaded_leaves_the_server_as_it_is() -> None:
    ended, answers = Event(), [RuntimeError("the database is away"), T0, T0 + DAY, T0 + DAY]

    class Broken:
        """A server whose definitions do not load."""

        def __init__(self) -> None:
            self._server_termination_event, self._server_id, self.loads = ended, "first", 0

        @property
        def _reload_lock(self) -> object:
            self.loads += 1
            raise RuntimeError("they do not load")

    def read() -> HistoryStart:
        answer = answers.pop(0) if answers else ended.set() or T0  # type: ignore[func-returns-value]
        if isinstance(answer, Exception):
            raise answer
        return HistoryStart(answer, T0)

    follow_start(Broken, read, seconds=0.0)
    server = Broken()
    wait_until(lambda: ended.is_set() and server.loads >= 3, "it has looked at each answer")
    assert server._server_id == "first"
