"""The ingest worker: follows all sources and lands what they tell in micro-batches, each in one database transaction.

Its tasks share one event loop. A listener for each source adds events to the current batch; the lander swaps the batch
for an empty one every 250 ms, or sooner when it is full, and commits it with the heartbeat and the watermark. They run
on one thread, so everything seen before the swap is in the batch: the moment of the swap is the watermark once the
batch is committed. A batch goes to the spool if the database does not take it, or if it grows too large meanwhile: the
worker never stops reading for long.

After an outage a source that has a mempool is asked for what was missed, beside what it tells meanwhile. Its gap lasts
until all of that is in a batch.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, repeat
from pathlib import Path

import psycopg
import structlog

from txwatch.clock import Clock
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import Lander, LandingHook
from txwatch.ingest.spool import MAX_BYTES, Spool
from txwatch.sources.source import (
    Connected,
    Delays,
    Disconnected,
    Health,
    MempoolSource,
    Missed,
    Resynced,
    Source,
    SourceAwayError,
    follow,
    reconnect_delays,
)
from txwatch.store.database import Connection, connect, database_now, storable
from txwatch.store.gaps import NO_WORKER, FeedGap, absent_until, close_open_gaps, open_gaps, record_gaps
from txwatch.store.lease import HEARTBEAT, Lease, lock_lease, take_lease
from txwatch.store.sightings import FollowedSource, followed_sources
from txwatch.store.transactions import stored_txids
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
"""Seconds after which a silent feed is taken to have heard the subscriptions, and one that is away to be away."""
MAX_TEXT = 200
"""Characters of what a source says of itself."""
RESYNC_SECONDS = 5.0
"""Most seconds between two attempts to read a mempool."""


@dataclass(frozen=True)
class Shift:
    """What one worker did: `landed` counts new transactions; `epoch` is 0 if it never had the lease."""

    epoch: int
    landed: int
    reason: str


@dataclass
class _Listening:
    """One source within a worker. `gaps` last until it is heard again, or until what was missed was told."""

    source: Source
    started_at: datetime
    hearing_since: datetime | None = None
    connected: bool = False
    gaps: list[FeedGap] = field(default_factory=list)
    health: Health = field(default_factory=lambda: Health("connected"))
    resyncing: asyncio.Task[None] | None = None

    @property
    def was_reached(self) -> bool:
        """Whether it was ever connected to; what came after is in its gaps."""
        return self.connected or self.hearing_since is not None

    def followed(self, now: datetime) -> FollowedSource:
        """As it is noted in the database."""
        return FollowedSource(
            self.source.name,
            self.hearing_since or self.started_at,
            now if self.connected else self.source.heard_until,
            now,
            self.connected,
            storable(self.health.text[:MAX_TEXT]),
            self.health.min_fee_rate,
            self.health.data_carrier_bytes,
            self.health.network,
        )


@dataclass
class IngestWorker:
    """One ingest worker. `duration` bounds its shift; None runs until it is stopped.

    A worker that is `relieved` lands until another takes the lease, which says that it waits for that. `spool` is the
    folder for batches that wait for the database; workers of one machine share it. The sources stamp what they tell
    with the worker's `clock`.
    """

    database_url: str = field(repr=False)
    sources: Sequence[Source]
    holder: str
    spool: Path
    clock: Clock
    duration: timedelta | None = None
    relieved: bool = False
    hook: LandingHook | None = None
    spool_bytes: int = MAX_BYTES
    delays: Delays = reconnect_delays

    def __post_init__(self) -> None:
        now = self.clock()
        self._batch = Batch(now, now)
        self._recent = RecentTxids()
        self._full = asyncio.Event()
        self._swapped = asyncio.Event()
        self._hearing = asyncio.Event()
        self._listening = [_Listening(source, now) for source in self.sources]
        self._epoch = 0
        self._spool = Spool(self.spool, self.spool_bytes)
        self._lander = Lander(
            self.database_url,
            self._spool,
            on_connected=self._on_connected,
            delays=self.delays,
            hook=self.hook,
        )

    async def run(self, stop: asyncio.Event) -> Shift:
        """Work until `stop` is set, the shift is over, or another worker has taken the lease."""
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(ANSWER_SECONDS, self._open_gaps_of_unreached)
        listeners = [asyncio.create_task(self._listen(one)) for one in self._listening]
        for listener in listeners:
            listener.add_done_callback(lambda _: stop.set())
        try:
            reason = await self._land(stop)
        finally:
            for listener in listeners:
                if listener.done() and not listener.cancelled():
                    await listener  # raises what ended it: it never returns
            tasks = [*listeners, *(one.resyncing for one in self._listening if one.resyncing is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._lander.close()
        return Shift(self._epoch, self._lander.new, reason)

    async def _listen(self, one: _Listening) -> None:
        has_mempool = isinstance(one.source, MempoolSource)
        async with aclosing(follow(one.source, self.delays)) as events:
            async for event in events:
                if isinstance(event, Connected):
                    one.connected = True
                    self._loop.call_later(ANSWER_SECONDS, self._hearing.set)
                    if isinstance(one.source, MempoolSource):
                        self._hear(one, event.at)
                        self._resync(one, one.source)
                elif isinstance(event, Disconnected):
                    one.connected = False
                    # What is told from now on is missed, also if the mempool is being read.
                    if one.resyncing is not None:
                        one.resyncing.cancel()
                    self._open_gap(one, event.heard_until, event.cause)
                elif isinstance(event, Missed):
                    self._open_gap(one, event.heard_until, event.cause)
                    if isinstance(one.source, MempoolSource):
                        self._resync(one, one.source)
                else:
                    if not has_mempool:
                        self._hear(one, one.source.heard_until)
                    self._batch.add(event, one.source.name, self._recent)
                    await self._make_room()

    def _open_gaps_of_unreached(self) -> None:
        for one in self._listening:
            if not one.was_reached:
                self._open_gap(one, one.started_at, "it could not be reached")

    async def _make_room(self) -> None:
        is_crowded = self._is_crowded()
        if is_crowded or len(self._batch.transactions) >= BATCH_COUNT or self._batch.bytes >= BATCH_BYTES:
            self._full.set()
            if is_crowded:
                await self._relieve()

    def _hear(self, one: _Listening, at: datetime) -> None:
        if not isinstance(one.source, MempoolSource):
            self._end_gaps(one, at, "heard again after reconnecting")
        if one.hearing_since is None:
            one.hearing_since = at
            self._hearing.set()

    def _open_gap(self, one: _Listening, heard_until: datetime, cause: str) -> None:
        """Begin a gap, unless one lasts already."""
        if not one.gaps:
            # In the words of whoever answers there, which neither the spool nor the database may refuse.
            one.gaps.append(FeedGap(heard_until, None, storable(cause), source=one.source.name))
            self._batch.gaps += one.gaps

    def _end_gaps(self, one: _Listening, at: datetime, ending: str, recovered: int = 0, tip: str | None = None) -> None:
        """End what lasts. What came back is counted once, for the first."""
        for gap, count in zip(one.gaps, chain([recovered], repeat(0)), strict=False):
            ended_at = max(gap.started_at, at)
            self._batch.gaps.append(replace(gap, ended_at=ended_at, ending=ending, recovered=count, tip=tip))
        one.gaps.clear()

    def _resync(self, one: _Listening, source: MempoolSource) -> None:
        """Ask the source for what was missed in its gaps, if there are any; anew if that is under way."""
        if one.resyncing is not None:
            one.resyncing.cancel()
        one.resyncing = asyncio.create_task(self._land_missed(one, source))

    async def _land_missed(self, one: _Listening, source: MempoolSource) -> None:
        for delay in self.delays():
            try:
                one.health = await source.health()
                if not one.gaps:
                    return
                landed = 0
                since = min(gap.started_at for gap in one.gaps)
                async with aclosing(source.resync(since, self._known)) as missed:
                    async for event in missed:
                        if isinstance(event, Resynced):
                            ending = f"its mempool was read: {landed:,} transactions had been missed"
                            if event.left:
                                ending += f", and at most {event.left:,} more are left to blocks"
                            # What is left may be mined later than that block.
                            tip = None if event.left else event.tip
                            self._end_gaps(one, event.at, ending, landed, tip)
                            log.info(
                                "source_resynced", source=one.source.name, landed=landed, left_to_blocks=event.left
                            )
                            return
                        landed += self._batch.add(event, one.source.name, self._recent)
                        await self._make_room()
            except (SourceAwayError, psycopg.Error) as error:
                log.warning("source_not_resynced", source=one.source.name, cause=str(error).strip())
            except Exception:
                # The gap would last for ever otherwise.
                log.exception("source_not_resynced", source=one.source.name)
            await asyncio.sleep(min(delay, RESYNC_SECONDS))

    async def _known(self, txids: Sequence[str]) -> set[str]:
        """Those of these transactions that are stored, or on the way there. Raises psycopg.Error."""

        def stored() -> set[str]:
            with connect(self.database_url, application="txwatch resync") as connection:
                return stored_txids(connection, txids)

        # In this order: what is landed after it was looked for in the table is remembered.
        return await asyncio.to_thread(stored) | self._recent.known(txids)

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
        batch.sources = [one.followed(batch.seen_through) for one in self._listening]
        self._batch = Batch(batch.seen_through, batch.seen_through)
        self._full.clear()
        self._swapped.set()
        return batch

    def _on_connected(self, connection: Connection) -> int:
        if self._epoch == 0:
            self._epoch = self._take_lease(connection)
        return self._epoch

    def _owe(self, one: _Listening, gaps: Sequence[FeedGap]) -> None:
        """Take over gaps that last, which are recorded; ask the source for what was missed in them, if it can be."""
        own = {gap.started_at for gap in one.gaps}
        one.gaps[:0] = [gap for gap in gaps if gap.started_at not in own]
        if one.connected and isinstance(one.source, MempoolSource):
            self._resync(one, one.source)

    def _take_lease(self, connection: Connection) -> int:
        now = database_now(connection)
        duration = timedelta(0) if self.relieved else self.duration
        expires_at = None if duration is None else now + duration
        with connection.transaction():
            # Locked, so that a commit of the holder before is either known here or learns that it is superseded.
            before = lock_lease(connection)
            epoch = take_lease(connection, self.holder, now, expires_at)
            heard_until = _heard_until(before, self._spool)
            heard_at = {known.source: known.heard_at for known in followed_sources(connection)}
            for one in self._listening:
                known = heard_at.get(one.source.name)
                if heard_until is not None and known is not None:
                    # The worker before may have followed other sources.
                    followed = before is not None and before.watermark is not None and known >= before.watermark
                    from_ = heard_until if followed or open_gaps(connection, one.source.name) else known
                    self._take_over(connection, one, from_, f"epoch {epoch} heard the feed")
        log.info("lease_taken", epoch=epoch, holder=self.holder)
        return epoch

    def _take_over(self, connection: Connection, one: _Listening, heard_until: datetime, ending: str) -> None:
        """Record what no worker heard of a source: until now, or until its mempool was read."""
        name, hearing_since = one.source.name, one.hearing_since or self.clock()
        if isinstance(one.source, MempoolSource) or not one.was_reached:
            self._leave_open(connection, one, heard_until)
            return
        close_open_gaps(connection, name, hearing_since, ending)
        # A worker that took the lease and landed nothing has recorded the gap until itself.
        heard_until = max(heard_until, absent_until(connection, name, heard_until) or heard_until)
        if heard_until < hearing_since:
            # If the holder before is alive, it will narrow this gap.
            record_gaps(connection, [FeedGap(heard_until, hearing_since, NO_WORKER, ending, source=name)])

    def _leave_open(self, connection: Connection, one: _Listening, since: datetime) -> None:
        """Record a gap that lasts, unless a worker that took the lease and landed nothing has left one."""
        gaps = open_gaps(connection, one.source.name) or [FeedGap(since, None, NO_WORKER, source=one.source.name)]
        record_gaps(connection, gaps)
        self._loop.call_soon_threadsafe(self._owe, one, gaps)


def _heard_until(before: Lease | None, spool: Spool) -> datetime | None:
    """The moment until which earlier workers are known to have heard the feed; None if there were none."""
    if before is None or before.committed_through is None or before.watermark is None:
        return None
    spooled = spool.heard_through(before.committed_through)
    return spooled if spooled > before.committed_through else before.watermark
