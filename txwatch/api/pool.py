"""The API's connections: a few, shared by all requests."""

from psycopg_pool import ConnectionPool

from txwatch.store.database import Connection
from txwatch.store.urls import libpq_url

REQUESTS = 8
"""Requests that use the database at once; the rest of the server's connections is for those who write."""
SIZE = REQUESTS + 4
"""Scoring and the metrics have theirs besides."""
WAIT_SECONDS = 10.0
STATEMENT_TIMEOUT = "30s"


def open_pool(database_url: str) -> ConnectionPool[Connection]:
    """A pool that is not open yet. Times come back in UTC; a statement is cut after STATEMENT_TIMEOUT."""
    return ConnectionPool(
        libpq_url(database_url),
        min_size=1,
        max_size=SIZE,
        timeout=WAIT_SECONDS,
        open=False,
        check=ConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "connect_timeout": 10,
            "application_name": "txwatch api",
            "options": f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT}",
        },
    )
