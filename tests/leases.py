"""A worker at the feed, as the lease shows one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from txwatch.store.database import connect

EVERY_SECONDS = 0.2


@contextmanager
def heartbeats(database_url: str) -> Iterator[None]:
    """During the block, whoever has the lease is heard and has committed all, by the database's clock."""
    ended = threading.Event()

    def beat() -> None:
        with connect(database_url) as connection:
            while not ended.wait(EVERY_SECONDS):
                connection.execute(BEAT)

    with connect(database_url) as connection:
        connection.execute(BEAT)
    thread = threading.Thread(target=beat, name="heartbeats")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


BEAT = (
    "UPDATE ingest_lease SET released_at = NULL,"
    " heartbeat_at = clock_timestamp(), committed_through = clock_timestamp()"
)
