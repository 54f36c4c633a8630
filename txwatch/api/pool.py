"""The API's connections: a few, shared by all requests."""

from psycopg_pool import ConnectionPool

from txwatch.store.database import Connection, connection_pool

REQUESTS = 8
"""Requests that use the database at once; the rest of the server's connections is for those who write."""
SIZE = REQUESTS + 4
"""Scoring and the metrics have theirs besides."""
STATEMENT_TIMEOUT = "30s"


def open_pool(database_url: str) -> ConnectionPool[Connection]:
    """A pool that is not open yet. Times come back in UTC; a statement is cut after STATEMENT_TIMEOUT."""
    return connection_pool(
        database_url,
        application="txwatch api",
        min_size=1,
        max_size=SIZE,
        options=f"-c statement_timeout={STATEMENT_TIMEOUT}",
    )
