"""Make batches durable: in Postgres while it answers, else in the spool, and from there in Postgres once it is back.

A batch goes straight to the database only when nothing waits before it, so that all is landed in order and the
watermark is true.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from functools import partial
from typing import TypeVar

import psycopg
import structlog
from psycopg.errors import DeadlockDetected, SerializationFailure
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from txwatch.clock import Clock
from txwatch.ingest.batch import Batch
from txwatch.ingest.connection import Delays
from txwatch.ingest.sealing import late_windows
from txwatch.ingest.spool import Spool, SpoolFullError, UnreadableBatchError
from txwatch.store.database import Connection, database_now, open_connection
from txwatch.store.gaps import FeedGap, narrow_gaps_between_workers, record_gaps
from txwatch.store.lease import count_messages, lock_lease, note_late_windows, release_lease, renew_lease
from txwatch.store.transactions import is_caused_by_rows, land_blocks, land_what_is_sound, quarantine
from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

_ATTEMPTS = 6
_FAILURES = 12
"""Enough to find one of 2,000. When all fail, the cause is not in the rows, and the landing must not wait for it."""

Landed = Callable[[Connection, Sequence[Transaction]], Callable[[], None] | None]
"""What else is to be written of transactions that are new, such as scores and alerts, in the transaction that lands
them. It runs in a savepoint: those for which it fails are landed without. It gives what is to be done once all is
committed.
"""


@dataclass(frozen=True)
class Committed:
    """What became of a batch. `superseded`: it was landed, but another worker has the lease by now."""

    new: int
    superseded: bool


def commit(
    connection: Connection,
    batch: Batch,
    *,
    epoch: int | None,
    now: datetime,
    landed: Landed | None = None,
    live: bool = True,
) -> Committed:
    """Land a batch and renew the lease of this epoch; with None, land it alone. `now` is by the database's clock.

    What is not `live` did not come by the feed: it is landed, and changes neither counts nor gaps.
    Deadlocks and serialization failures are retried. Raises psycopg.Error when the database cannot take the batch.
    """
    committed, then = _commit(connection, batch, epoch, now, landed, live)
    if then is not None:
        then()
    return committed


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.info("commit_retried", attempt=state.attempt_number, cause=str(error).splitlines()[0])


@retry(
    retry=retry_if_exception_type((DeadlockDetected, SerializationFailure)),
    # At random, so that two that met do not meet again; in all at most 1.3 s.
    wait=wait_random_exponential(multiplier=0.04),
    stop=stop_after_attempt(_ATTEMPTS),
    before_sleep=_log_retry,
    reraise=True,
)
def _commit(
    connection: Connection, batch: Batch, epoch: int | None, now: datetime, landed: Landed | None, live: bool
) -> tuple[Committed, Callable[[], None] | None]:
    with connection.transaction():
        txids, refused = land_what_is_sound(connection, batch.transactions)
        land_blocks(connection, batch.blocks, batch.seen_through)
        quarantine(connection, [*batch.malformed, *refused])
        record_gaps(connection, batch.gaps)
        new = _those(batch.transactions, txids)
        then = _tell(landed, connection, new) if landed is not None and new else None
        lease = lock_lease(connection)
        note_late_windows(connection, late_windows(new, lease, now), "landed late")
        if not live:
            return Committed(len(new), superseded=False), then
        # A batch whose commit was not answered is landed again: it must not count twice.
        if lease is None or lease.committed_through != batch.seen_through:
            count_messages(
                connection,
                received=batch.received,
                duplicates=batch.duplicates + len(batch.transactions) - len(txids) - len(refused),
                ignored=batch.ignored,
            )
        superseded = lease is not None and epoch != lease.epoch
        if superseded:
            # The new holder subscribed before it took the lease, but this batch may hold what came before that.
            narrow_gaps_between_workers(connection, batch.seen_from, batch.seen_through)
        elif epoch is not None:
            renew_lease(connection, epoch, now, batch.seen_through)
    return Committed(len(new), superseded), then


def _those(transactions: Sequence[Transaction], txids: Sequence[str]) -> Sequence[Transaction]:
    if len(txids) == len(transactions):
        return transactions
    wanted = set(txids)
    return [tx for tx in transactions if tx.txid in wanted]


def _tell(landed: Landed, connection: Connection, new: Sequence[Transaction]) -> Callable[[], None] | None:
    """Tell `landed` of them, in halves where it fails, until what makes it fail stands alone: the others are scored."""
    parts, then = [new], list[Callable[[], None]]()
    failures, untold, cause = 0, 0, None
    while parts:
        part = parts.pop()
        try:
            with connection.transaction():
                told = landed(connection, part)
        except psycopg.OperationalError:
            raise  # the connection is at fault, and the whole batch is tried again
        except Exception as error:
            failures, cause = failures + 1, error
            if len(part) == 1 or failures > _FAILURES:
                untold += len(part)
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        else:
            if told is not None:
                then.append(told)
    if untold:
        log.error("landed_without_scores", transactions=untold, exc_info=cause)

    def tell() -> None:
        for call in then:
            call()

    return tell if then else None


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
