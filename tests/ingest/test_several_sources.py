"""A worker and its sources: one that is away holds up no other, and what it does not tell is a gap until it is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.builders import transaction
from tests.ingest.following import Following, ban, fast, landed, query, until
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import MonotoneClock
from txwatch.ingest import lander
from txwatch.ingest import worker as ingest_worker
from txwatch.ingest.worker import IngestWorker
from txwatch.sources.source import (
    Health,
    Known,
    MempoolSource,
    Missed,
    Removed,
    Resynced,
    Seen,
    Source,
    SourceAwayError,
    Told,
)
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import renew_lease, take_lease
from txwatch.store.sightings import FollowedSource, note_sources

pytestmark = pytest.mark.anyio


class Plain(Source):
    """Tells what the test puts into its queue, None to disconnect."""

    def __init__(self, name: str, clock: MonotoneClock) -> None:
        super().__init__(name, clock)
        self.told: asyncio.Queue[Told | Missed | None] = asyncio.Queue()
        self.is_away = False

    def tell(self, number: int) -> None:
        self.told.put_nowait(Seen(transaction(txid=f"{number:064x}", seen_at=self.clock())))

    async def open(self) -> None:
        if self.is_away:
            raise SourceAwayError("away")

    async def close(self) -> None:
        pass

    async def health(self) -> Health:
        return Health("scripted")

    async def events(self) -> AsyncGenerator[Told | Missed]:
        while (told := await self.told.get()) is not None:
            self.heard_until = self.clock()
            yield told
        raise SourceAwayError("closed")


class Scripted(Plain, MempoolSource):
    """The same with a mempool, which is read once `may_read` is set."""

    def __init__(self, name: str, clock: MonotoneClock) -> None:
        super().__init__(name, clock)
        self.may_read = asyncio.Event()
        self.asked_since: list[datetime] = []
        self.mempool: list[str] = []
        self.asked_for: list[str] = []

    async def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        self.asked_since.append(since)
        await self.may_read.wait()
        stored = await known(self.mempool)
        for txid in self.mempool:
            if txid not in stored:
                self.asked_for.append(txid)
                yield Seen(transaction(txid=txid, seen_at=self.clock()))
        yield Resynced(self.clock(), "f" * 64)


@asynccontextmanager
async def working(database_url: str, spool: Path, *sources: Plain) -> AsyncIterator[None]:
    stop = asyncio.Event()
    worker = IngestWorker(database_url, sources, "test", spool, MonotoneClock(), delays=fast)
    running = Following(worker, stop, asyncio.create_task(worker.run(stop)))
    try:
        yield
    finally:
        await running.stop()


def gaps(database_url: str) -> list[tuple[object, ...]]:
    return query(database_url, "SELECT source, state, recovered FROM feed_gaps ORDER BY started_at")


async def test_a_source_that_is_away_at_the_start_has_a_gap_until_its_mempool_was_read(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_worker, "ANSWER_SECONDS", 0.1)
    clock = MonotoneClock()
    here, away = Scripted("here", clock), Scripted("away", clock)
    away.is_away, away.mempool = True, [f"{n:064x}" for n in (1, 2)]
    async with working(fresh, tmp_path, here, away):
        here.tell(1)
        await until(lambda: gaps(fresh) == [("away", "open", 0)])
        noted = "SELECT source, connected FROM feed_sources ORDER BY source"
        await until(lambda: query(fresh, noted) == [("away", False), ("here", True)])
        away.is_away = False
        away.may_read.set()
        await until(lambda: gaps(fresh) == [("away", "ended", 1)])
    assert len(landed(fresh)) == 2
    assert query(fresh, "SELECT source, count(*) FROM sightings GROUP BY 1 ORDER BY 1") == [("away", 1), ("here", 1)]


async def test_what_is_no_transaction_waits_on_disk_too_while_the_database_hangs(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_worker, "PENDING_COUNT", 1_000)
    monkeypatch.setattr(ingest_worker, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lander, "COMMIT_SECONDS", PATIENCE_SECONDS)
    source = Scripted("node", MonotoneClock())
    async with working(fresh, tmp_path, source):
        source.tell(1)
        await until(lambda: len(landed(fresh)) == 1)
        with connect(fresh) as connection, connection.transaction():
            connection.execute("LOCK TABLE ingest_lease IN ACCESS EXCLUSIVE MODE")
            for n in range(5_000):
                source.told.put_nowait(Removed(f"{n:064x}", source.clock()))
            await until(lambda: any(tmp_path.rglob("*.batch")), 120)
        await until(lambda: query(fresh, "SELECT count(*) FROM removals") == [(5_000,)])


async def test_a_source_that_comes_a_moment_after_another_has_no_gap(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_worker, "ANSWER_SECONDS", PATIENCE_SECONDS)
    clock = MonotoneClock()
    here, later = Scripted("here", clock), Scripted("later", clock)
    later.is_away = True
    async with working(fresh, tmp_path, here, later):
        here.tell(1)
        await until(lambda: len(landed(fresh)) == 1)
        later.is_away = False
        later.tell(2)
        await until(lambda: len(landed(fresh)) == 2)
    assert gaps(fresh) == []
    assert later.asked_since == []


async def test_an_outage_while_the_mempool_is_read_belongs_to_the_gap(fresh: str, tmp_path: Path) -> None:
    source = Scripted("node", MonotoneClock())
    async with working(fresh, tmp_path, source):
        source.tell(1)
        await until(lambda: len(landed(fresh)) == 1)
        source.told.put_nowait(None)
        await until(lambda: len(source.asked_since) == 1)
        source.is_away = True
        source.told.put_nowait(None)
        await until(lambda: query(fresh, "SELECT connected FROM feed_sources") == [(False,)])
        source.may_read.set()  # the reading that was under way is not the one that counts
        source.mempool = [f"{n:064x}" for n in (1, 2)]
        assert gaps(fresh) == [("node", "open", 0)]
        source.is_away = False
        await until(lambda: gaps(fresh) == [("node", "ended", 1)])
    assert source.asked_since == [source.asked_since[0]] * 2
    assert len(landed(fresh)) == 2


async def test_a_transaction_that_is_being_landed_is_not_asked_for(fresh: str, tmp_path: Path) -> None:
    clock = MonotoneClock()
    here, node = Scripted("here", clock), Scripted("node", clock)
    node.mempool = [f"{n:064x}" for n in (1, 2)]
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with working(fresh, tmp_path, here, node):
        await until(lambda: len(query(fresh, "SELECT FROM feed_sources")) == 2)
        with connect(fresh) as connection, connection.transaction():
            connection.execute("LOCK TABLE transactions IN SHARE MODE")  # may be read, and takes no rows
            here.tell(1)
            await until(lambda: len(query(fresh, waits)) == 1)
            node.told.put_nowait(Missed(clock(), "a hole"))
            node.may_read.set()
            await until(lambda: f"{2:064x}" in node.asked_for)
        await until(lambda: gaps(fresh) == [("node", "ended", 1)])
    assert node.asked_for == [f"{2:064x}"]
    assert len(landed(fresh)) == 2


async def test_all_gaps_that_earlier_workers_left_open_end_with_one_reading(fresh: str, tmp_path: Path) -> None:
    source = Scripted("node", MonotoneClock())
    source.may_read.set()
    source.mempool = ["1" * 64]
    with connect(fresh) as connection, connection.transaction():
        times = [source.clock() for _ in range(4)]
        epoch = take_lease(connection, "before", times[0], None)
        renew_lease(connection, epoch, times[2], times[2])
        note_sources(connection, [_followed(times[0], times[2])])
        record_gaps(connection, [FeedGap(at, None, "killed", source="node") for at in times[:2]])
    async with working(fresh, tmp_path, source):
        await until(lambda: gaps(fresh) == [("node", "ended", 1), ("node", "ended", 0)])
    assert source.asked_since[-1] == times[0]


@pytest.mark.parametrize("kind", [Plain, Scripted])
async def test_what_a_worker_spooled_before_it_had_the_lease_hides_no_gap(
    fresh: str, server_url: str, tmp_path: Path, kind: type[Plain]
) -> None:
    """A database that is away as a worker begins makes it write its first batches to disk."""
    source = kind("node", MonotoneClock())
    if isinstance(source, Scripted):
        source.may_read.set()
    with connect(fresh) as connection, connection.transaction():
        heard_until = source.clock()
        epoch = take_lease(connection, "before", heard_until, None)
        renew_lease(connection, epoch, heard_until, heard_until)
        note_sources(connection, [_followed(heard_until, heard_until)])
    ban(server_url, fresh, True)
    async with working(fresh, tmp_path, source):
        source.tell(1)
        await until(lambda: len(list(tmp_path.rglob("*.batch"))) == 1)
        ban(server_url, fresh, False)
        await until(lambda: len(landed(fresh)) == 1)
        await until(lambda: gaps(fresh) == [("node", "ended", 0)])
    [(started_at, ended_at, first)] = query(fresh, "SELECT started_at, ended_at, seen_at FROM feed_gaps, transactions")
    assert (started_at, ended_at >= first) == (heard_until, True)


async def test_what_the_holder_before_commits_meanwhile_is_in_no_gap(fresh: str, tmp_path: Path) -> None:
    source = Plain("node", MonotoneClock())
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with connect(fresh) as connection:
        with connection.transaction():
            before = source.clock()
            epoch = take_lease(connection, "before", before, None)
            renew_lease(connection, epoch, before, before)
            note_sources(connection, [_followed(before, before)])
        async with working(fresh, tmp_path, source):
            with connection.transaction():
                heard_until = source.clock()
                renew_lease(connection, epoch, heard_until, heard_until)
                note_sources(connection, [_followed(before, heard_until)])
                source.tell(1)
                await until(lambda: len(query(fresh, waits)) == 1)
            await until(lambda: len(gaps(fresh)) == 1)
    assert query(fresh, "SELECT started_at FROM feed_gaps") == [(heard_until,)]


def _followed(since: datetime, until: datetime) -> FollowedSource:
    return FollowedSource("node", since, until, until, False, "scripted", 1.0, 83)


class Faulty(Scripted):
    """Says of itself what no column takes, and fails in ways that nobody thought of."""

    def __init__(self, name: str, clock: MonotoneClock) -> None:
        super().__init__(name, clock)
        self.faults = [RecursionError("too deep"), OverflowError("too large")]

    async def health(self) -> Health:
        return Health("a\0b\ud800" + "x" * 10_000)

    async def events(self) -> AsyncGenerator[Told | Missed]:
        async for event in super().events():
            if isinstance(event, Missed):
                raise ValueError("an answer\0of no form\ud800")
            yield event

    async def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        if self.faults:
            raise self.faults.pop()
        async for event in super().resync(since, known):
            yield event


async def test_a_fault_of_one_source_ends_no_other_and_its_gap_ends(fresh: str, tmp_path: Path) -> None:
    clock = MonotoneClock()
    here, faulty = Scripted("here", clock), Faulty("faulty", clock)
    faulty.may_read.set()
    async with working(fresh, tmp_path, here, faulty):
        here.tell(1)
        await until(lambda: len(landed(fresh)) == 1)
        faulty.told.put_nowait(Missed(clock(), "x"))
        await until(lambda: gaps(fresh) == [("faulty", "ended", 0)])
        here.tell(2)
        faulty.tell(3)
        await until(lambda: len(landed(fresh)) == 3)
    assert faulty.faults == []
    assert query(fresh, "SELECT cause FROM feed_gaps") == [("ValueError: an answer of no form",)]
    ((text,),) = query(fresh, "SELECT text FROM feed_sources WHERE source = 'faulty'")
    assert text.startswith("a\ufffdb?xxx")
    assert len(text) == 200
