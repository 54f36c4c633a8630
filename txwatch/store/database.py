"""Connections to the product's database."""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from txwatch.store.urls import libpq_url

Connection = psycopg.Connection[Any]

MAX_POOLS = 8
"""Pools that a process keeps; it has one or two databases, and a purpose or two for each."""

_pools: dict[tuple[int, str, str, int], ConnectionPool[Connection]] = {}
_pools_lock = threading.Lock()


def open_connection(database_url: str, *, application: str = "txwatch") -> Connection:
    """One connection in autocommit, so that every transaction is explicit: `with connection.transaction()`.

    Times come back in UTC whatever the server's zone. Raises psycopg.OperationalError when the server is away.
    """
    return psycopg.connect(libpq_url(database_url), **_parameters(database_url, application))


@contextmanager
def connect(database_url: str, *, application: str = "txwatch") -> Iterator[Connection]:
    """The same, closed at the end of the block."""
    with open_connection(database_url, application=application) as connection:
        yield connection


def connection_pool(
    database_url: str,
    *,
    application: str,
    max_size: int,
    min_size: int = 0,
    wait_seconds: float = 10.0,
    options: str = "",
) -> ConnectionPool[Connection]:
    """A pool of such connections, not open yet; each is tried before it is given out, and left as it was opened.

    `options` are libpq's, such as `-c statement_timeout=30s`. Whoever finds none free within `wait_seconds` gets
    psycopg_pool.PoolTimeout, a psycopg.OperationalError.
    """
    return ConnectionPool(
        libpq_url(database_url),
        min_size=min_size,
        max_size=max_size,
        timeout=wait_seconds,
        open=False,
        check=ConnectionPool.check_connection,
        # Temporary tables and settings of the block before must not be there in the next.
        reset=_leave_as_opened,
        kwargs=_parameters(database_url, application, options),
    )


def _parameters(database_url: str, application: str, options: str = "") -> dict[str, Any]:
    """How each connection is opened. The options that the URL gives stay."""
    given = conninfo_to_dict(libpq_url(database_url)).get("options") or ""
    return {
        "autocommit": True,
        "connect_timeout": 10,
        "application_name": application,
        "options": f"{given} -c timezone=UTC {options}".strip(),
        # Without these a connection to a host that vanished would be waited for some minutes.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def process_pool(database_url: str, *, application: str, max_size: int = 8) -> ConnectionPool[Connection]:
    """The pool that this process has for a database and a purpose: made when it is asked for first, and kept.

    A process that was forked from another has pools of its own. Of more than MAX_POOLS the one that was asked for
    longest ago is closed.
    """
    key = (os.getpid(), database_url, application, max_size)
    with _pools_lock:
        pool = _pools.pop(key, None)
        if pool is None:
            pool = connection_pool(database_url, application=application, max_size=max_size)
            pool.open()
        _pools[key] = pool
        if len(_pools) > MAX_POOLS:
            _pools.pop(next(iter(_pools))).close()
    return pool


@atexit.register
def _close_pools() -> None:
    for (process, *_), pool in _pools.items():
        if process == os.getpid():
            pool.close()


def _leave_as_opened(connection: Connection) -> None:
    # Not DISCARD ALL: it also drops the statements that psycopg has prepared, and believes to be there.
    connection.execute("DISCARD TEMP; RESET ALL")


def database_now(connection: Connection) -> datetime:
    """The present moment by the database's clock, UTC: the one clock that all machines share."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    if row is None:
        raise LookupError("the database gave no time")
    moment: datetime = row[0]
    return moment


def commit_without_waiting(connection: Connection) -> None:
    """Let the open transaction's commit not wait for the disk: for all but the last of many that follow each other.

    A commit that waits, waits for all that were before it: once the last has returned, all survive a crash.
    """
    connection.execute("SET LOCAL synchronous_commit = off")
