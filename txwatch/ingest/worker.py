"""The ingest worker: follows the feed and lands it in micro-batches, each in one database transaction.

Two tasks share one event loop. The listener files messages into the current batch; the lander swaps the batch for an
empty one every 250 ms, or sooner when it is full, and commits it together with the heartbeat and the watermark. The
swap and the filing run on one thread, so everything seen before the swap is in the batch: that moment is the
watermark once the batch is committed.
"""

import asyncio
import signal
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from txwatch.clock import Clock, MonotoneClock
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.connection import Disconnected, Received, Subscribed, listen
from txwatch.store.database import Connection, connect
from txwatch.store.landing import FeedGap, land_blocks, land_transactions, quarantine, record_gaps
from txwatch.store.lease import LeaseLostError, read_lease, release_lease, renew_lease, take_lease

log = structlog.get_logger(__name__)

BATCH_AGE_SECONDS = 0.25
BATCH_COUNT = 2_000
MAX_PENDING = 50_000
"""Above this many messages that wait for the database, the worker stops reading and lets the socket fill up."""


@dataclass(frozen=True)
class Shift:
    """What one worker did. Counts since it began; times UTC."""

    epoch: int
    landed: int
    reason: str


@dataclass
class IngestWorker:
    """One ingest worker. `duration` bounds its shift; None runs until it is stopped."""

    database_url: str = field(repr=False)
    stream_url: str
    holder: str
    duration: timedelta | None = None
    clock: Clock = field(default_factory=MonotoneClock)
    landed: int = 0

    def __post_init__(self) -> None:
        self._batch = Batch()
        self._recent = RecentTxids()
        self._full = asyncio.Event()
        self._drained = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._silent_since: Disconnected | None = None

    async def run(self, stop: asyncio.Event) -> Shift:
        """Work until `stop` is set, the shift is over, or another worker has taken the lease."""
        with connect(self.database_url, application="txwatch ingest") as connection:
            async with asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(self._listen())
                try:
                    return await self._land(connection, stop)
                finally:
                    listener.cancel()

    async def _listen(self) -> None:
        async with aclosing(listen(self.stream_url, self.clock)) as events:
            async for event in events:
                match event:
                    case Received():
                        await self._file(event)
                    case Subscribed(at):
                        if self._silent_since is not None:
                            self._batch.gaps.append(FeedGap(self._silent_since.at, at, self._silent_since.cause))
                            self._silent_since = None
                        self._subscribed.set()
                    case Disconnected():
                        self._silent_since = event

    async def _file(self, received: Received) -> None:
        self._batch.add(received, self._recent)
        if len(self._batch.transactions) >= BATCH_COUNT:
            self._full.set()
        if self._batch.received >= MAX_PENDING:
            self._drained.clear()
            await self._drained.wait()

    async def _land(self, connection: Connection, stop: asyncio.Event) -> Shift:
        # Subscribe first: what the worker before still lands, and what this one hears meanwhile, overlap.
        await _first(self._subscribed, stop)
        if stop.is_set():
            return Shift(0, 0, "stopped before the feed answered")
        epoch, ends_at = self._take_lease(connection)
        log.info("lease_taken", epoch=epoch, holder=self.holder)
        reason = "superseded"
        try:
            while not (stop.is_set() or self._is_over(ends_at)):
                await _first(self._full, stop, at_most=BATCH_AGE_SECONDS)
                await self._flush(connection, epoch)
            await self._flush(connection, epoch)
            reason = "stopped" if stop.is_set() else "shift over"
        except LeaseLostError:
            log.info("lease_lost", epoch=epoch, holder=self.holder)
        release_lease(connection, epoch, self.clock())
        return Shift(epoch, self.landed, reason)

    def _take_lease(self, connection: Connection) -> tuple[int, datetime | None]:
        now = self.clock()
        ends_at = None if self.duration is None else now + self.duration
        with connection.transaction():
            before = read_lease(connection)
            epoch = take_lease(connection, self.holder, now, ends_at)
            if before is not None and before.is_stale(now) and before.committed_through is not None:
                record_gaps(connection, [FeedGap(before.committed_through, now, "no worker was running")])
        return epoch, ends_at

    def _is_over(self, ends_at: datetime | None) -> bool:
        return ends_at is not None and self.clock() >= ends_at

    async def _flush(self, connection: Connection, epoch: int) -> None:
        batch, self._batch = self._batch, Batch()
        seen_through = self.clock()
        self._full.clear()
        self._drained.set()
        try:
            # In a thread: the loop goes on receiving, and answers the server's pings, while the database works.
            self.landed += await asyncio.to_thread(_commit, connection, epoch, batch, seen_through, self.clock)
        except LeaseLostError:
            # The new holder subscribed before it took the lease, but what came until now may be older than that.
            rest, self._batch = self._batch, Batch()
            for left in batch, rest:
                await asyncio.to_thread(_commit, connection, None, left, seen_through, self.clock)
            raise


def _commit(connection: Connection, epoch: int | None, batch: Batch, seen_through: datetime, clock: Clock) -> int:
    """Land a batch in one transaction; with an epoch, only while that holds the lease. Returns the new rows."""
    with connection.transaction():
        new = land_transactions(connection, batch.transactions)
        land_blocks(connection, batch.blocks, seen_through)
        quarantine(connection, batch.malformed)
        record_gaps(connection, batch.gaps)
        if epoch is not None:
            renew_lease(
                connection,
                epoch,
                clock(),
                seen_through,
                received=batch.received,
                duplicates=batch.duplicates + len(batch.transactions) - len(new),
                ignored=batch.ignored,
            )
    return len(new)


async def _first(*events: asyncio.Event, at_most: float | None = None) -> None:
    """Return when one of the events is set, or after `at_most` seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def work_until_signalled(worker: IngestWorker) -> Shift:
    """Run a worker in this thread's own loop until SIGINT or SIGTERM, which end it after a last flush."""

    async def work() -> Shift:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await worker.run(stop)

    return asyncio.run(work())
