"""Dagster's instance: its storages in Postgres with pooled connections, its tables, and the slots of its pools.

dagster-postgres opens a connection for each call of each of its three storages, and looks for its tables for each new
instance, which the code server makes for every tick of every sensor. At rest that took most of the machine.

Every pool has one slot, so that windows are computed one run after the other: a window's context depends on the windows
before it. The pool `scoring` may have more where several machines share a backfill. `ingest` has three: for a shift,
for the next one, and for a run whose process has died while Dagster still shows it as started.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import dagster as dg
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config
from sqlalchemy import Engine
from sqlalchemy.event import listens_for

KEPT = 4
"""Connections that a process keeps, for all its instances."""
BEYOND = 20
"""Connections that it may open besides for a moment; further calls wait."""
RENEWED_AFTER_SECONDS = 300


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage with one connection pool for all instances of a process; survives a restart of the server."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        pool = _pool(postgres_url)
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = pool

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledPostgresStorage":
        return cls(pg_url_from_config(cast(PostgresStorageConfig, config_value)), inst_data)


@lru_cache(maxsize=4)
def _pool(postgres_url: str) -> Engine:
    DagsterPostgresStorage(postgres_url)  # makes the tables where there are none
    pool = create_pg_engine(
        postgres_url,
        isolation_level="AUTOCOMMIT",
        pool_size=KEPT,
        max_overflow=BEYOND,
        pool_recycle=RENEWED_AFTER_SECONDS,
        pool_pre_ping=True,  # notices connections that the server has closed
    )
    listens_for(pool, "connect")(_tell_time_in_utc)
    return pool


def _tell_time_in_utc(connection: Any, _: object) -> None:
    """Dagster reads the times at which the server stored its runs as UTC, whatever time zone the server has."""
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()


INGEST_POOL, INGEST_SLOTS = "ingest", 3


def prepare_instance(instance: dg.DagsterInstance) -> None:
    """Migrate the instance's storage, and set its pools. Safe to repeat."""
    instance.upgrade()
    instance.event_log_storage.set_concurrency_slots(INGEST_POOL, INGEST_SLOTS)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as default_instance:
        prepare_instance(default_instance)
