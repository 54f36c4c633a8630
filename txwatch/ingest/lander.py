"""Makes batches durable: in Postgres while it answers, else in the spool, and from there in Postgres once it is back.

A batch goes straight to the database only when nothing waits before it, so that all is landed in order and the
watermark is true.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import TypeVar

import psycopg
import structlog

from txwatch.clock import Clock
from txwatch.ingest.batch import Batch
from txwatch.ingest.commit import Committed, Landed, commit
from txwatch.ingest.connection import Delays
from txwatch.ingest.spool import Spool, SpoolFullError, UnreadableBatchError
from txwatch.store.database import Connection, database_now, open_connection
from txwatch.store.gaps import FeedGap
from txwatch.store.landing import is_caused_by_rows
from txwatch.store.lease import release_lease

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 15.0
"""A database that does not answer for this long is taken for gone, and its connection is cut."""
CATCH_UP_SECONDS = 0.5
"""What waits is landed for so long at a time, in which what comes goes to its end."""
_ADOPT_SECONDS = 10.0
_RECONNECT_SECONDS = 5.0

_T = TypeVar("_T")


class _Outcome(Enum):
    LANDED = auto()
    AWAY = auto()
    REFUSED = auto()


class Lander:
    """The way of batches from memory to where they survive.

    `on_connected` is called with each new connection and gives the epoch to land under; None lands without a lease.
    """

    def __init__(
        self,
        database_url: str,
        spool: Spool,
        clock: Clock,
        *,
        on_connected: Callable[[Connection], int | None],
        delays: Delays,
        landed: Landed | None = None,
        commit_seconds: float = COMMIT_SECONDS,
        catch_up_seconds: float = CATCH_UP_SECONDS,
    ) -> None:
        self.new = 0
        self.superseded = False
        self._url = database_url
        self._spool = spool
        self._clock = clock
        self._on_connected = on_connected
        self._delays = delays
        self._landed = landed
        self._commit_seconds = commit_seconds
        self._catch_up_seconds = catch_up_seconds
        self._epoch: int | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._adopt_at = 0.0
        self._losing: FeedGap | None = None
        self._untold: list[FeedGap] = []
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether the database answered the last time."""
        return self._connection is not None

    async def put(self, batch: Batch) -> list[str]:
        """Make a batch durable. Returns the txids that could not be kept, because the spool is full as well."""
        if self._connection is None or not self._spool.is_empty:
            return await self.spool(batch)
        if await self._commit(self._connection, self._with_losses(batch)) is _Outcome.LANDED:
            self._losses_told()
            return []
        return await self.spool(batch)

    async def spool(self, batch: Batch) -> list[str]:
        """Put a batch on disk, whatever the state of the database. Returns the txids that could not be kept."""
        batch = self._with_losses(batch)
        if batch.is_empty:
            return []
        try:
            await asyncio.to_thread(self._spool.append, batch)
        except SpoolFullError as error:
            if self._losing is None:
                log.error("spool_full", cause=str(error), lost_from=batch.seen_from.isoformat())
                self._losing = FeedGap(batch.seen_from, None, f"spool full: {error}")
            self._untold = [gap for gap in batch.gaps if gap.started_at != self._losing.started_at]
            return [tx.txid for tx in batch.transactions]
        self._losses_told()
        return []

    def _with_losses(self, batch: Batch) -> Batch:
        """The batch, which will also tell of the batches before it that could not be kept."""
        known = {gap.started_at for gap in batch.gaps}
        untold = list(self._untold)
        if self._losing is not None:
            untold.append(FeedGap(self._losing.started_at, batch.seen_from, self._losing.cause, "there was room again"))
        batch.gaps[:0] = [gap for gap in untold if gap.started_at not in known]
        return batch

    def _losses_told(self) -> None:
        self._untold, self._losing = [], None

    async def catch_up(self, crowded: Callable[[], bool]) -> None:
        """Connect again if the connection is lost, and land what waits, for a moment, and while it is `crowded` before.

        What comes in a moment would go to the end of the spool: only while the reading waits does a flood leave it.
        """
        if self._connecting is not None:
            if not self._connecting.done():
                return
            connecting, self._connecting = self._connecting, None
            self._connection = connecting.result()
        if self._connection is None:
            self._connecting = asyncio.create_task(self._connect())
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._catch_up_seconds
        if loop.time() >= self._adopt_at:
            self._adopt_at = loop.time() + _ADOPT_SECONDS
            if adopted := await asyncio.to_thread(self._spool.adopt_orphans):
                log.info("spool_adopted", batches=adopted)
        while self._connection is not None and not self._spool.is_empty and (loop.time() < until or crowded()):
            await self._land_oldest(self._connection)

    async def leave(self, epoch: int) -> None:
        """Say in the lease that the worker of this epoch has left, if the database answers."""
        if self._connection is not None and epoch:
            with suppress(psycopg.Error):
                await self._in_time(self._connection, partial(_release, self._connection, epoch))

    async def close(self) -> None:
        """Let go of the database and of the spool."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.close()
        self._spool.close()

    async def _land_oldest(self, connection: Connection) -> None:
        try:
            oldest = await asyncio.to_thread(self._spool.first)
        except UnreadableBatchError as error:
            log.error("spooled_batch_unreadable", cause=str(error))
            self._untold.append(FeedGap(error.seen_from, error.seen_through, str(error), "the next batch was readable"))
            return
        if oldest is None:
            return
        path, batch = oldest
        outcome = await self._commit(connection, batch)
        if outcome is _Outcome.LANDED:
            await asyncio.to_thread(self._spool.remove, path)
        elif outcome is _Outcome.REFUSED:
            await asyncio.to_thread(self._spool.set_aside, path)
            cause = f"{path} was refused and is set aside; the log says why"
            self._untold.append(FeedGap(batch.seen_from, batch.seen_through, cause, "the next batch was landed"))

    async def _commit(self, connection: Connection, batch: Batch) -> _Outcome:
        """Land a batch, or give up the connection: it is gone, or in an unknown state."""

        def work() -> Committed:
            return commit(connection, batch, epoch=self._epoch, now=database_now(connection), landed=self._landed)

        try:
            done = await self._in_time(connection, work)
        except Exception as error:
            self._connection = None
            with suppress(psycopg.Error):
                connection.close()
            if isinstance(error, psycopg.Error) and not is_caused_by_rows(error):
                log.warning("database_away", cause=str(error).strip() or type(error).__name__)
                return _Outcome.AWAY
            # A fault of this program, or of something in the batch that is no transaction.
            log.exception("batch_refused", seen_from=batch.seen_from.isoformat())
            return _Outcome.REFUSED
        self.new += done.new
        if done.superseded:
            self.superseded = True
            self._epoch = None
        return _Outcome.LANDED

    async def _in_time(self, connection: Connection, work: Callable[[], _T]) -> _T:
        # In a thread: the loop goes on receiving, and answers the server's pings, while the database works.
        working = asyncio.ensure_future(asyncio.to_thread(work))
        done, _ = await asyncio.wait([working], timeout=self._commit_seconds)
        if not done:
            _cut(connection)
        return await working

    async def _connect(self) -> Connection:
        for delay in self._delays():
            try:
                connection = await asyncio.to_thread(self._open)
                try:
                    self._epoch = await self._in_time(connection, partial(self._begin, connection))
                except BaseException:
                    connection.close()
                    raise
            except psycopg.Error as error:
                log.info("database_still_away", cause=str(error).strip())
                await asyncio.sleep(min(delay, _RECONNECT_SECONDS))
            else:
                return connection
        raise AssertionError("delays never end")

    def _open(self) -> Connection:
        connection = open_connection(self._url, application="txwatch ingest")
        if self._closed:
            connection.close()
        return connection

    def _begin(self, connection: Connection) -> int | None:
        # A worker that stops in the middle of a transaction must not keep its locks from the one that follows.
        connection.execute("SET idle_in_transaction_session_timeout = '15s'")
        return None if self.superseded else self._on_connected(connection)


def _release(connection: Connection, epoch: int) -> None:
    release_lease(connection, epoch, database_now(connection))


def _cut(connection: Connection) -> None:
    """Shut the connection's socket, which ends whatever another thread waits for on it, with an error there."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
