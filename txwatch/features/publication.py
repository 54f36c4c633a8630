"""Publications: numbers that say what was known when a context was published.

A context sums the address buckets that were written up to its own publication, so that it stays what it was when
recovered data rewrite a bucket later.
"""

from txwatch.store.database import Connection

_LOCK = 7_842_003  # any constant


def next_publication(connection: Connection) -> int:
    """The next number, in the caller's transaction, which others wait for until its end.

    Without the wait a context could be published that sums buckets of a lower number which are not committed yet.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    row = connection.execute("SELECT nextval('context_publications')").fetchone()
    return int(row[0]) if row else 0
