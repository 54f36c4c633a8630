"""Dagster's storage keeps its connections: for all instances of a process, and across a restart of the database."""

from datetime import timedelta

import dagster as dg
import psycopg

from blockchain_assets.platform.instance import KEPT
from txwatch.clock import utc_now
from txwatch.store.database import connect

TICKS = 20


def backends(database_url: str) -> set[int]:
    """The connections that Dagster's storage has to the database, by process."""
    with connect(database_url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%%event_logs%%'"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
    return {pid for (pid,) in rows}


def tick(instance: dg.DagsterInstance) -> None:
    """What the code server does for each tick of a sensor: an instance of its own, and a look at all three storages."""
    with dg.DagsterInstance.from_ref(instance.get_ref()) as own:
        own.get_runs(limit=1)
        own.all_instigator_state()
        own.fetch_materializations(dg.AssetKey("transactions"), limit=1)


def test_instances_of_a_process_share_their_connections(
    dagster_instance: dg.DagsterInstance, database_url: str
) -> None:
    tick(dagster_instance)
    before = backends(database_url)
    for _ in range(TICKS):
        tick(dagster_instance)
    assert backends(database_url) == before
    assert 1 <= len(before) <= KEPT


def test_connections_that_a_restart_has_closed_are_replaced(
    dagster_instance: dg.DagsterInstance, database_url: str
) -> None:
    tick(dagster_instance)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for process in backends(database_url):
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [process])
    tick(dagster_instance)


def test_when_a_run_was_made_is_told_in_utc_by_a_server_in_any_time_zone(
    dagster_instance: dg.DagsterInstance, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        database = psycopg.sql.Identifier(connection.info.dbname)
        connection.execute(psycopg.sql.SQL("ALTER DATABASE {} SET timezone = 'America/New_York'").format(database))
        for process in backends(database_url):
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [process])
    made = dagster_instance.run_storage.add_run(dg.DagsterRun("recovery", "1" * 32))
    record = dagster_instance.get_run_record_by_id(made.run_id)
    assert record is not None
    assert abs(utc_now() - record.create_timestamp) < timedelta(hours=1)
