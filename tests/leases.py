"""A worker at the feed, as the lease shows one."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.repeating import repeating
from txwatch.store.database import connect

EVERY_SECONDS = 0.2


@contextmanager
def heartbeats(database_url: str) -> Iterator[None]:
    """During the block, whoever has the lease is heard and has committed all, by the database's clock."""

    def beat() -> None:
        with connect(database_url) as connection:
            connection.execute(
                "UPDATE ingest_lease SET released_at = NULL,"
                " heartbeat_at = clock_timestamp(), committed_through = clock_timestamp(), heard_at = clock_timestamp()"
            )

    beat()
    with repeating(beat, EVERY_SECONDS):
        yield
