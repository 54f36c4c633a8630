"""Standing by: of several workers one follows the feed, and the others wait until the lease is free.

A holder that left has said so, and its lease is free at once. One that is only not heard of may be connecting to a
database that was away for all: it must be so for a while, by the looks of the one who waits, so that it is not relieved
of what waits in its spool.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg
import structlog

from txwatch.ingest.worker import Shift
from txwatch.live.lane import LiveLane
from txwatch.store.database import connect, database_now
from txwatch.store.lease import Lease, read_lease
from txwatch.waiting import wait_for_first

log = structlog.get_logger(__name__)

STALE_FOR = timedelta(seconds=15)
"""Time for which a holder must be seen to be stale, besides the time after which it is."""
LOOK_EVERY_SECONDS = 1.0


class Vacancy:
    """Whether the lease is free, by one look after the other."""

    def __init__(self, stale_for: timedelta = STALE_FOR) -> None:
        self._stale_for = stale_for
        self._stale_since: datetime | None = None

    def forget(self) -> None:
        """The database did not answer: what was seen before it says nothing of now."""
        self._stale_since = None

    def seen(self, lease: Lease | None, now: datetime) -> bool:
        """Whether it is free at `now`, by the database's clock."""
        if lease is None or lease.released_at is not None:
            return True
        if not lease.is_stale(now):
            self._stale_since = None
            return False
        self._stale_since = min(self._stale_since or now, now)
        return now - self._stale_since >= self._stale_for


async def stand_by(
    database_url: str,
    lane: Callable[[], LiveLane],
    stop: asyncio.Event,
    *,
    ended: Callable[[Shift], None] = lambda _: None,
    stale_for: timedelta = STALE_FOR,
    look_every: float = LOOK_EVERY_SECONDS,
) -> None:
    """Until `stop` is set: wait until the lease is free, and work until another has it. `ended` gets each shift."""
    while not stop.is_set():
        await _until_free(database_url, stop, Vacancy(stale_for), look_every)
        if not stop.is_set():
            # A worker sets the event that it is given when it ends.
            ours = asyncio.Event()
            passing_on = asyncio.create_task(_pass_on(stop, ours))
            try:
                ended(await lane().run(ours))
            finally:
                passing_on.cancel()


async def _pass_on(stop: asyncio.Event, ours: asyncio.Event) -> None:
    await stop.wait()
    ours.set()


async def _until_free(database_url: str, stop: asyncio.Event, vacancy: Vacancy, look_every: float) -> None:
    log.info("standing_by")
    while not stop.is_set() and not await asyncio.to_thread(_is_free, database_url, vacancy):
        await wait_for_first(stop.wait(), at_most=look_every)


def _is_free(database_url: str, vacancy: Vacancy) -> bool:
    try:
        with connect(database_url, application="txwatch standby") as connection:
            return vacancy.seen(read_lease(connection), database_now(connection))
    except psycopg.Error as error:
        vacancy.forget()
        log.warning("lease_not_read", cause=str(error).strip().splitlines()[0])
        return False
