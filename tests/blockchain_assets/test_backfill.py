"""Many windows are backfilled in one run, which shows how far it is, and gives the same rows each time."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from psycopg import sql

from tests.conftest import HISTORY_START, Installation
from tests.materializing import materialize
from txwatch.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.landing import land_transactions
from txwatch.windows import WINDOW, window_range
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import from_wire

HOURS = 3
SPAN = timedelta(hours=HOURS)
"""The run of a day does the same eight times as often; most of its time goes into Dagster's own events."""
TABLES = ("address_activity", "address_windows", "network_baseline", "transaction_features")


@pytest.fixture
def connection(installation: Installation) -> Iterator[Connection]:
    """Thin traffic."""
    transactions = []
    for tx in Simulator(seed=5, start=HISTORY_START, rate=0.05).until(HISTORY_START + SPAN):
        message = decode(tx.message)
        assert isinstance(message, UnconfirmedTransaction)
        transactions.append(from_wire(message.x, tx.at, "bulk"))
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
