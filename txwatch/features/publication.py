"""Publications: numbers that say what was known when a context was published.

A context sums the address buckets that were written up to its own publication, so that it stays what it was when
recovered data rewrite a bucket later.
"""

from txwatch.store.database import Connection
from txwatch.store.locks import Lock, wait_for


def next_publication(connection: Connection) -> int:
    """The next number, in the caller's transaction, which others wait for until its end.

    Without the wait a context could be published that sums buckets of a lower number which are not committed yet.
    """
    wait_for(connection, Lock.PUBLICATION)
    row = connection.execute("SELECT nextval('context_publications')").fetchone()
    return int(row[0]) if row else 0
