"""Connections to the product's database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from txwatch.store.urls import libpq_url

Connection = psycopg.Connection[Any]


def open_connection(database_url: str, *, application: str = "txwatch") -> Connection:
    """One connection in autocommit, so that every transaction is explicit: `with connection.transaction()`.

    Times come back in UTC whatever the server's zone. Raises psycopg.OperationalError when the server is away.
    """
    connection = psycopg.connect(
        libpq_url(database_url),
        autocommit=True,
        connect_timeout=10,
        application_name=application,
        # Without these a connection to a host that vanished would be waited for some minutes.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )
    try:
        connection.execute("SET TIME ZONE 'UTC'")
    except psycopg.Error:
        connection.close()
        raise
    return connection


@contextmanager
def connect(database_url: str, *, application: str = "txwatch") -> Iterator[Connection]:
    """The same, closed at the end of the block."""
    with open_connection(database_url, application=application) as connection:
        yield connection


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
