"""Many windows are backfilled in one run, which shows how far it is, and gives the same rows each time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.daemon import get_default_daemon_logger
from psycopg import sql

from tests.conftest import HISTORY_START, Installation
from tests.materializing import materialize, range_tags
from txwatch.clock import WINDOW, utc_now, window_key, window_range
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

HOURS = 3
SPAN = timedelta(hours=HOURS)
"""The run of a day does the same eight times as often; most of its time goes into Dagster's own events."""
WINDOW_ASSETS = ("address_activity", "network_baseline", "transaction_features", "transaction_scores", "alerts")
TABLES = ("address_activity", "address_windows", "network_baseline", "transaction_features")


@pytest.fixture(scope="module")
def history_start() -> datetime:
    """The traffic below begins with the first partition."""
    return HISTORY_START


@pytest.fixture
def connection(installation: Installation) -> Iterator[Connection]:
    """Thin traffic."""
    simulated = Simulator(seed=5, start=HISTORY_START, rate=0.05).until(HISTORY_START + SPAN)
    transactions = [tx.transaction("bulk") for tx in simulated]
    with connect(installation.database_url) as connection:
        with connection.transaction():
            land_transactions(connection, transactions)
        yield connection


def backfill(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    # Nothing has been applied to Feast's store here: that the contexts are not online stops no window.
    windows = window_range(HISTORY_START, HISTORY_START + SPAN)
    return materialize(instance, "address_activity", "network_baseline", "transaction_features", windows=windows)


def contents(connection: Connection) -> dict[str, tuple[int, str]]:
    """How many rows each derived table has, and a digest of all of them in all columns."""
    found = {}
    for table in TABLES:
        row = connection.execute(
            sql.SQL("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} AS t").format(
                sql.Identifier(table)
            )
        ).fetchone()
        assert row is not None
        found[table] = (row[0], row[1])
    return found


def test_a_backfill_is_one_run_and_gives_identical_rows(
    dagster_instance: dg.DagsterInstance, connection: Connection
) -> None:
    first = backfill(dagster_instance)
    assert first.success
    rows = contents(connection)
    assert rows["network_baseline"][0] == SPAN // WINDOW
    assert rows["transaction_features"][0] == sum(1 for _ in connection.execute("SELECT FROM transactions"))

    second = backfill(dagster_instance)
    assert second.success
    assert contents(connection) == rows

    for key in ("address_activity", "network_baseline", "transaction_features"):
        materialized = dagster_instance.get_materialized_partitions(dg.AssetKey(key))
        assert len(materialized) == SPAN // WINDOW
    logged = [record.user_message for record in dagster_instance.all_logs(first.run_id)]
    assert sum("transactions so far" in message for message in logged) == HOURS, "progress is shown once for each hour"
    assert sum("buckets so far" in message for message in logged) == HOURS


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_a_day_that_is_chosen_in_the_ui_is_one_run_of_that_day(dagster_instance: dg.DagsterInstance) -> None:
    """As the daemon decides it: what a chosen range means for each asset, and which of them share a run."""
    day = window_range(HISTORY_START, HISTORY_START + timedelta(days=1))
    with create_test_daemon_workspace_context(
        ModuleTarget("blockchain_assets.definitions", attribute=None, working_directory=None, location_name="txwatch"),
        dagster_instance,
    ) as workspace:
        dagster_instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id="a-day",
                asset_graph=workspace.create_request_context().asset_graph,
                partition_names=[window_key(window) for window in day],
                asset_selection=[dg.AssetKey(asset) for asset in WINDOW_ASSETS],
                backfill_timestamp=utc_now().timestamp(),
                tags={},
                dynamic_partitions_store=dagster_instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
        )
        errors = list(execute_backfill_iteration(workspace, get_default_daemon_logger("test")))
    assert not any(errors)
    [run] = dagster_instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": "a-day"}))
    assert run.asset_selection == {dg.AssetKey(asset) for asset in WINDOW_ASSETS}
    assert range_tags(day).items() <= run.tags.items()
