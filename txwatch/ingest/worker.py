"""The ingest worker: follows the feed and lands it in micro-batches, each in one database transaction.

Two tasks share one event loop. The listener adds messages to the current batch; the lander swaps the batch for an empty
one every 250 ms, or sooner when it is full, and commits it with the heartbeat and the watermark. Both run on one
thread, so everything seen before the swap is in the batch: the moment of the swap is the watermark once the batch is
committed. A batch goes to the spool if the database does not take it, or if it grows too large meanwhile: the worker
never stops reading for long.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from txwatch.clock import Clock, MonotoneClock
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.connection import (
    SILENCE_SECONDS,
    Delays,
    Disconnected,
    Received,
    Subscribed,
    listen,
    reconnect_delays,
)
from txwatch.ingest.lander import Lander, LandingHook
from txwatch.ingest.spool import MAX_BYTES, Spool, spooled_through
from txwatch.store.database import Connection, database_now
from txwatch.store.gaps import NO_WORKER, FeedGap, absent_until, close_open_gaps, record_gaps
from txwatch.store.lease import HEARTBEAT, Lease, read_lease, take_lease
from txwatch.waiting import wait_for_first

log = structlog.get_logger(__name__)

BATCH_AGE_SECONDS = 0.25
BATCH_COUNT = 2_000
BATCH_BYTES = 16 << 20
PENDING_COUNT = 10_000
PENDING_BYTES = 64 << 20
"""Bounds of messages in memory. Above them the worker waits PATIENCE_SECONDS for the database, then uses the spool."""
PATIENCE_SECONDS = 2.0
"""Seconds; short against the time in which a server wants its pings answered."""
OVERTIME = 7 / 6
"""Multiple of a shift's length, if no other worker takes over: a stuck queue of runs must not make a gap."""
ANSWER_SECONDS = 5.0
"""Seconds after which a silent feed is taken to have heard the subscriptions."""


@dataclass(frozen=True)
class Shift:
    """What one worker did: `landed` counts new transactions; `epoch` is 0 if it never had the lease."""

    epoch: int
    landed: int
    reason: str


@dataclass
class IngestWorker:
    """One ingest worker. `duration` bounds its shift; None runs until it is stopped.

    A worker that is `relieved` lands until another takes the lease, which says that it waits for that. `spool` is the
    folder for batches that wait for the database; workers of one machine share it.
    """

    database_url: str = field(repr=False)
    stream_url: str
    holder: str
    spool: Path
    duration: timedelta | None = None
    relieved: bool = False
    hook: LandingHook | None = None
    spool_bytes: int = MAX_BYTES
    silence_seconds: float = SILENCE_SECONDS
    delays: Delays = reconnect_delays
    clock: Clock = field(default_factory=MonotoneClock)

    def __post_init__(self) -> None:
        now = self.clock()
        self._batch = Batch(now, now)
        self._recent = RecentTxids()
        self._full = asyncio.Event()
        self._swapped = asyncio.Event()
        self._hearing = asyncio.Event()
        self._hearing_since: datetime | None = None
        self._unheard: Disconnected | None = None
        self._epoch = 0
        self._lander = Lander(
            self.database_url,
            Spool(self.spool, self.spool_bytes),
            on_connected=self._on_connected,
            delays=self.delays,
            hook=self.hook,
        )

    async def run(self, stop: asyncio.Event) -> Shift:
        """Work until `stop` is set, the shift is over, or another worker has taken the lease."""
        listener = asyncio.create_task(self._listen())
        listener.add_done_callback(lambda _: stop.set())
        try:
            reason = await self._land(stop)
        finally:
            if listener.done() and not listener.cancelled():
                await listener  # raises what ended it: it never returns
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener
            await self._lander.close()
        return Shift(self._epoch, self._lander.new, reason)

    async def _listen(self) -> None:
        feed = listen(self.stream_url, self.clock, silence_seconds=self.silence_seconds, delays=self.delays)
        loop = asyncio.get_running_loop()
        async with aclosing(feed) as events:
            async for event in events:
                if isinstance(event, Received):
                    if self._unheard is not None or self._hearing_since is None:
                        self._hear(event.seen_at)
                    self._batch.add(event, self._recent)
                    if len(self._batch.transactions) >= BATCH_COUNT or self._batch.bytes >= BATCH_BYTES:
                        self._full.set()
                        if self._is_crowded():
                            await self._relieve()
                elif isinstance(event, Subscribed):
                    loop.call_later(ANSWER_SECONDS, self._hearing.set)
                elif self._unheard is None:
                    self._unheard = event
                    self._batch.gaps.append(FeedGap(event.heard_until, None, event.cause))

    def _hear(self, at: datetime) -> None:
        if self._unheard is not None:
            gap = FeedGap(self._unheard.heard_until, at, self._unheard.cause, "heard again after reconnecting")
            self._batch.gaps.append(gap)
            self._unheard = None
        if self._hearing_since is None:
            self._hearing_since = at
        self._hearing.set()

    def _is_crowded(self) -> bool:
        return self._batch.received >= PENDING_COUNT or self._batch.bytes >= PENDING_BYTES

    async def _relieve(self) -> None:
        """Let reading wait a moment, also while the spool is landed, or else write the batch to disk."""
        if self._lander.is_connected:
            self._swapped.clear()
            await wait_for_first(self._swapped.wait(), at_most=PATIENCE_SECONDS)
            if self._swapped.is_set():
                return
        batch = self._swap()
        self._recent.forget(await self._lander.spool(batch))

    async def _land(self, stop: asyncio.Event) -> str:
        loop = asyncio.get_running_loop()
        ends_at = None if self.duration is None else loop.time() + OVERTIME * self.duration.total_seconds()
        # Subscribe before taking the lease, so that this worker and the one before it overlap.
        await wait_for_first(self._hearing.wait(), stop.wait())
        while not (stop.is_set() or self._lander.superseded or (ends_at is not None and loop.time() >= ends_at)):
            await self._lander.catch_up(self._is_crowded)
            await wait_for_first(self._full.wait(), stop.wait(), at_most=BATCH_AGE_SECONDS)
            await self._flush()
        await self._flush(last=True)
        await self._lander.leave(self._epoch)
        if self._lander.superseded:
            return "superseded"
        return "stopped" if stop.is_set() else "shift over"

    async def _flush(self, *, last: bool = False) -> None:
        if self._batch.is_empty and not last and self.clock() - self._batch.seen_from < HEARTBEAT:
            return
        batch = self._swap()
        self._recent.forget(await self._lander.put(batch))

    def _swap(self) -> Batch:
        batch = self._batch
        batch.seen_through = self.clock()
        self._batch = Batch(batch.seen_through, batch.seen_through)
        self._full.clear()
        self._swapped.set()
        return batch

    def _on_connected(self, connection: Connection) -> int:
        if self._epoch == 0:
            self._epoch = self._take_lease(connection)
        return self._epoch

    def _take_lease(self, connection: Connection) -> int:
        now = database_now(connection)
        hearing_since = self._hearing_since or self.clock()
        duration = timedelta(0) if self.relieved else self.duration
        expires_at = None if duration is None else now + duration
        with connection.transaction():
            before = read_lease(connection)
            epoch = take_lease(connection, self.holder, now, expires_at)
            ending = f"epoch {epoch} heard the feed"
            close_open_gaps(connection, hearing_since, ending)
            heard_until = _heard_until(before, spooled_through(self.spool))
            if heard_until is not None:
                # A worker that took the lease and landed nothing has recorded the gap until itself.
                heard_until = max(heard_until, absent_until(connection, heard_until) or heard_until)
            if heard_until is not None and heard_until < hearing_since:
                # If the holder before is alive, it will narrow this gap.
                record_gaps(connection, [FeedGap(heard_until, hearing_since, NO_WORKER, ending)])
        log.info("lease_taken", epoch=epoch, holder=self.holder)
        return epoch


def _heard_until(before: Lease | None, spooled: datetime | None) -> datetime | None:
    """The moment until which earlier workers are known to have heard the feed; None if there were none."""
    if before is None or before.watermark is None:
        return None
    return max(before.watermark, spooled or before.watermark)
