"""Make batches durable: in Postgres, or in the spool until Postgres answers again.

A batch goes straight to Postgres only if the spool is empty: batches land in order, which makes the watermark true.
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
from typing import Protocol, TypeVar

import psycopg
import structlog
from psycopg.errors import DeadlockDetected, SerializationFailure
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from txwatch.ingest.batch import Batch
from txwatch.ingest.sealing import late_windows
from txwatch.ingest.spool import Spool, SpoolFullError, UnreadableBatchError
from txwatch.sources.source import Delays
from txwatch.store.database import Connection, connect, database_now
from txwatch.store.gaps import ALL_SOURCES, FeedGap, narrow_gaps_between_workers, record_gaps
from txwatch.store.lease import count_messages, lock_lease, note_late_windows, release_lease, renew_lease
from txwatch.store.life import land_spends, record_removals
from txwatch.store.sightings import land_sightings, note_sources
from txwatch.store.transactions import (
    is_caused_by_rows,
    land_blocks,
    land_what_is_sound,
    quarantine,
    remove_blocks,
)
from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

_ATTEMPTS = 6
_MAX_HOOK_FAILURES = 12
"""Enough to find one transaction of 2,000; if all fail, the cause is not in the rows."""


class LandingHook(Protocol):
    """What is done with the new transactions besides landing them, such as scoring."""

    def write(self, connection: Connection, new: Sequence[Transaction]) -> None:
        """Write what belongs to new transactions, in a savepoint of the database transaction that lands them."""
        ...

    def follow_up(self, connection: Connection, batch: Batch) -> None:
        """Write what a batch says of earlier transactions, and what has become due by its end, in a savepoint.

        Called with each live batch, also an empty one, which comes each second.
        """
        ...

    def committed(self) -> None:
        """Called after the commit of what was written."""
        ...


@dataclass(frozen=True)
class CommitResult:
    """`new` counts the transactions. `superseded`: the batch was landed, but another worker has the lease by now."""

    new: int
    superseded: bool


def commit(
    connection: Connection,
    batch: Batch,
    *,
    epoch: int | None,
    now: datetime,
    hook: LandingHook | None = None,
    live: bool = True,
) -> CommitResult:
    """Land a batch, and renew the lease of this epoch, if there is one. `now` is by the database's clock.

    A batch that is not `live` did not come from the feed: it changes neither counts nor the lease. Deadlocks and
    serialization failures are retried. Raises psycopg.Error when the database cannot take the batch.
    """
    result = _commit(connection, batch, epoch, now, hook, live)
    if hook is not None:
        hook.committed()
    return result


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.info("commit_retried", attempt=state.attempt_number, cause=str(error).splitlines()[0])


@retry(
    retry=retry_if_exception_type((DeadlockDetected, SerializationFailure)),
    # Random, so that two workers do not collide again; at most 1.3 s in all.
    wait=wait_random_exponential(multiplier=0.04),
    stop=stop_after_attempt(_ATTEMPTS),
    before_sleep=_log_retry,
    reraise=True,
)
def _commit(
    connection: Connection, batch: Batch, epoch: int | None, now: datetime, hook: LandingHook | None, live: bool
) -> CommitResult:
    with connection.transaction():
        txids, refused = land_what_is_sound(connection, batch.transactions)
        land_blocks(connection, batch.blocks, batch.seen_through)
        remove_blocks(connection, batch.removed_blocks, batch.seen_through)
        quarantine(connection, [*batch.malformed, *refused])
        record_gaps(connection, batch.gaps)
        landed = set(txids)
        new = [tx for tx in batch.transactions if tx.txid in landed]
        land_spends(connection, [*new, *batch.spenders])
        record_removals(connection, batch.removals)
        if live:
            land_sightings(connection, batch.sightings)
        note_sources(connection, batch.sources)
        if hook is not None and new:
            _write_by_hook(hook, connection, new)
        if hook is not None and live:
            _follow_up(hook, connection, batch)
        lease = lock_lease(connection)
        note_late_windows(connection, late_windows(new, lease, now), "landed late")
        if not live:
            return CommitResult(len(new), superseded=False)
        # A batch whose commit was not answered is landed again, and must not count twice.
        if lease is None or lease.committed_through != batch.seen_through:
            count_messages(
                connection,
                received=batch.received,
                duplicates=batch.duplicates + len(batch.transactions) - len(txids) - len(refused),
                ignored=batch.ignored,
            )
        superseded = lease is not None and epoch != lease.epoch
        if superseded:
            # The new holder heard nothing before it subscribed; this batch may.
            heard = [one.source for one in batch.sources if one.connected]
            narrow_gaps_between_workers(connection, heard, batch.seen_from, batch.seen_through)
        elif epoch is not None:
            renew_lease(connection, epoch, now, batch.seen_through, heard=bool(batch.transactions))
    return CommitResult(len(new), superseded)


def _write_by_hook(hook: LandingHook, connection: Connection, new: Sequence[Transaction]) -> None:
    """Call `hook.write`, in halves where it fails, until the transaction that makes it fail stands alone."""
    parts = [new]
    failures, unscored, cause = 0, 0, None
    while parts:
        part = parts.pop()
        try:
            with connection.transaction():
                hook.write(connection, part)
        except psycopg.OperationalError:
            raise  # the connection failed: the whole batch is tried again
        except Exception as error:
            failures, cause = failures + 1, error
            if len(part) == 1 or failures > _MAX_HOOK_FAILURES:
                unscored += len(part)
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    if unscored:
        log.error("landed_without_scores", transactions=unscored, exc_info=cause)


def _follow_up(hook: LandingHook, connection: Connection, batch: Batch) -> None:
    """Call `hook.follow_up`; what it could not write is not worth the batch."""
    try:
        with connection.transaction():
            hook.follow_up(connection, batch)
    except psycopg.OperationalError:
        raise
    except Exception:
        log.exception("not_followed_up", seen_through=batch.seen_through.isoformat())


COMMIT_SECONDS = 15.0
"""Seconds after which the connection to a silent database is cut."""
CATCH_UP_SECONDS = 0.5
"""Seconds of landing from the spool at a time; new batches go to its end meanwhile."""
_ADOPT_SECONDS = 10.0
_RECONNECT_SECONDS = 5.0

_T = TypeVar("_T")


class _Outcome(Enum):
    LANDED = auto()
    AWAY = auto()
    REFUSED = auto()


class Lander:
    """Lands batches. `on_connected` gives the epoch to land under on a new connection; None lands without a lease."""

    def __init__(
        self,
        database_url: str,
        spool: Spool,
        *,
        on_connected: Callable[[Connection], int | None],
        delays: Delays,
        hook: LandingHook | None = None,
        catch_up_seconds: float = CATCH_UP_SECONDS,
    ) -> None:
        self.new = 0
        self.superseded = False
        self._url = database_url
        self._spool = spool
        self._on_connected = on_connected
        self._delays = delays
        self._hook = hook
        self._catch_up_seconds = catch_up_seconds
        self._epoch: int | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._adopt_at = 0.0
        self._losing: FeedGap | None = None  # open while the spool is full
        self._silent_from: datetime | None = None
        self._unrecorded: list[FeedGap] = []
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether the database answered last time."""
        return self._connection is not None

    async def put(self, batch: Batch) -> list[str]:
        """Make a batch durable. Returns the txids that could not be kept, because the spool is full."""
        if (
            self._connection is None
            or not self._spool.is_empty
            or await self._commit(self._connection, self._with_losses(batch)) is not _Outcome.LANDED
        ):
            return await self.spool(batch)
        self._clear_losses()
        self._silent_from = None
        return []

    async def spool(self, batch: Batch) -> list[str]:
        """Write a batch to disk. Returns the txids that could not be kept."""
        batch = self._with_losses(batch)
        if self._silent_from is not None:
            batch.seen_from, self._silent_from = self._silent_from, None
        if batch.is_empty:
            # The next one covers it as well: on disk there must be no hole while this worker hears all.
            self._silent_from = batch.seen_from
            return []
        try:
            await asyncio.to_thread(self._spool.append, batch)
        except SpoolFullError as error:
            if self._losing is None:
                log.error("spool_full", cause=str(error), lost_from=batch.seen_from.isoformat())
                self._losing = FeedGap(batch.seen_from, None, f"spool full: {error}", source=ALL_SOURCES)
            self._unrecorded = [gap for gap in batch.gaps if gap.key != self._losing.key]
            return [tx.txid for tx in batch.transactions]
        self._clear_losses()
        return []

    def _with_losses(self, batch: Batch) -> Batch:
        """The batch, with gaps for the batches before it that could not be kept."""
        known = {gap.key for gap in batch.gaps}
        losses = list(self._unrecorded)
        if (losing := self._losing) is not None:
            ending = "there was room again"
            losses.append(FeedGap(losing.started_at, batch.seen_from, losing.cause, ending, ALL_SOURCES))
        batch.gaps[:0] = [gap for gap in losses if gap.key not in known]
        return batch

    def _clear_losses(self) -> None:
        self._unrecorded, self._losing = [], None

    async def catch_up(self, crowded: Callable[[], bool]) -> None:
        """Reconnect if needed, and land spooled batches for a moment, or as long as reading waits: while `crowded`."""
        if self._connecting is not None:
            if not self._connecting.done():
                return
            self._connection, self._connecting = self._connecting.result(), None
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
        """Release the lease of this epoch, if the database answers; also if a new connection has only just taken it."""
        if epoch and self._connection is None and self._connecting is not None:
            await asyncio.wait([self._connecting], timeout=COMMIT_SECONDS)
            if self._connecting.done():
                self._connection, self._connecting = self._connecting.result(), None
        if (connection := self._connection) is not None and epoch:
            with suppress(psycopg.Error):
                await self._in_time(connection, lambda: release_lease(connection, epoch, database_now(connection)))

    async def close(self) -> None:
        """Close the connection and the spool."""
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
            self._unrecorded.append(
                FeedGap(error.seen_from, error.seen_through, str(error), "the next batch was readable", ALL_SOURCES)
            )
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
            self._unrecorded.append(
                FeedGap(batch.seen_from, batch.seen_through, cause, "the next batch was landed", ALL_SOURCES)
            )

    async def _commit(self, connection: Connection, batch: Batch) -> _Outcome:
        """Land a batch, or give up the connection, which is gone or in an unknown state."""
        try:
            result = await self._in_time(
                connection,
                lambda: commit(connection, batch, epoch=self._epoch, now=database_now(connection), hook=self._hook),
            )
        except Exception as error:
            self._connection = None
            with suppress(psycopg.Error):
                connection.close()
            if isinstance(error, psycopg.Error) and not is_caused_by_rows(error):
                log.warning("database_away", cause=str(error).strip() or type(error).__name__)
                return _Outcome.AWAY
            # A fault of this program, or of something else in the batch than transactions.
            log.exception("batch_refused", seen_from=batch.seen_from.isoformat())
            return _Outcome.REFUSED
        self.new += result.new
        if result.superseded:
            self.superseded = True
            self._epoch = None
        return _Outcome.LANDED

    async def _in_time(self, connection: Connection, work: Callable[[], _T]) -> _T:
        # In a thread: the loop goes on receiving and answering pings while the database works.
        working = asyncio.ensure_future(asyncio.to_thread(work))
        done, _ = await asyncio.wait([working], timeout=COMMIT_SECONDS)
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
        connection = connect(self._url, application="txwatch ingest")
        if self._closed:
            connection.close()
        return connection

    def _begin(self, connection: Connection) -> int | None:
        # A worker that hangs in a transaction must not keep its locks from the next one.
        connection.execute("SET idle_in_transaction_session_timeout = '15s'")
        return None if self.superseded else self._on_connected(connection)


def _cut(connection: Connection) -> None:
    """Shut the connection's socket down, so that the thread that waits for it gets an error."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
