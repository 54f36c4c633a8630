"""The ingest worker on a real feed and a real database: everything lands once, and what was missed is known."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.builders import numbered_utx, pay, spend
from tests.databases import empty_tables
from tests.feeds import CapturedFeed
from tests.ingest.following import worker_on
from tests.waiting import eventually
from txwatch.clock import MonotoneClock, utc_now
from txwatch.ingest.sealing import sealed_through, shift_needed
from txwatch.ingest.worker import IngestWorker, Shift
from txwatch.store.database import connect, database_now
from txwatch.store.lease import read_lease, take_lease

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty(database_url: str) -> None:
    """No rows are left from another test."""
    with connect(database_url) as connection:
        empty_tables(connection, "transactions, blocks, feed_gaps, ingest_lease, quarantined_messages")


def rows(database_url: str, query: str) -> Sequence[tuple[Any, ...]]:
    with connect(database_url) as connection:
        return connection.execute(query).fetchall()


def landed(database_url: str) -> list[int]:
    """The numbers of the transactions that are there."""
    return sorted(int(txid, 16) for (txid,) in rows(database_url, "SELECT txid FROM transactions"))


@asynccontextmanager
async def working(worker: IngestWorker) -> AsyncIterator[tuple[asyncio.Task[Shift], asyncio.Event]]:
    """A worker at work, and what stops it."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield task, stop
    finally:
        stop.set()
        await asyncio.wait([task])


async def subscribed(database_url: str, epoch: int) -> None:
    """Once the worker holds the lease it has subscribed."""

    def holds() -> bool:
        with connect(database_url) as connection:
            lease = read_lease(connection)
        return lease is not None and lease.epoch == epoch and lease.committed_through is not None

    await eventually(holds, f"epoch {epoch} is at work")


async def test_it_lands_each_transaction_once_and_quarantines_the_rest_with_reasons(
    database_url: str, tmp_path: Path
) -> None:
    no_prevout = numbered_utx(3, inputs=[spend(None)])
    malformed = [numbered_utx(4, size=0), b'{"op":"utx"}', numbered_utx(5, out=[pay(-1)])]
    other = b'{"op":"something_new"}'
    lines = [numbered_utx(1), numbered_utx(2), numbered_utx(1), no_prevout, *malformed, other, numbered_utx(6)]
    feed = CapturedFeed(tmp_path, lines)
    async with (
        feed.serve() as server,
        working(worker_on(database_url, server.stream_url, "test", tmp_path / "spool")) as (task, stop),
    ):
        await subscribed(database_url, 1)
        feed.play(len(lines))
        await eventually(lambda: landed(database_url) == [1, 2, 3, 6], "all four have landed")
        stop.set()
        assert await task == Shift(1, 4, "stopped")
    assert rows(database_url, "SELECT fee_sat FROM transactions WHERE txid LIKE '%3'") == [(None,)]
    reasons = [reason for (reason,) in rows(database_url, "SELECT reason FROM quarantined_messages ORDER BY id")]
    assert len(reasons) == 3
    assert "size" in reasons[0]
    assert "x" in reasons[1]
    assert "value" in reasons[2]
    with connect(database_url) as connection:
        lease = read_lease(connection)
    assert lease is not None
    # One message more than was played: the answer to the ping that follows a subscription.
    assert (lease.received, lease.duplicates, lease.ignored) == (len(lines) + 1, 1, 2)
    assert lease.released_at is not None


async def test_after_the_server_closes_it_subscribes_again_and_records_the_gap(
    database_url: str, tmp_path: Path
) -> None:
    before = CapturedFeed(tmp_path, [numbered_utx(n) for n in (1, 2)])
    async with before.serve() as server:
        port = urlsplit(server.stream_url).port
        assert port is not None
        worker = worker_on(database_url, server.stream_url, "test", tmp_path / "spool")
        async with working(worker) as (task, stop):
            await subscribed(database_url, 1)
            before.play(2)
            await eventually(lambda: landed(database_url) == [1, 2], "what came before has landed")
            closed_after = utc_now()
            await server.__aexit__(None, None, None)
            after = CapturedFeed(tmp_path, [numbered_utx(n) for n in (2, 3, 4)])
            async with after.serve(port):
                opened = utc_now()
                await eventually(
                    lambda: rows(database_url, "SELECT 1 FROM feed_gaps WHERE ended_at IS NOT NULL"),
                    "the gap has ended",
                )
                after.play(3)
                await eventually(lambda: landed(database_url) == [1, 2, 3, 4], "what came after has landed")
                stop.set()
                assert (await task).landed == 4
    ((started, ended, cause, state),) = rows(database_url, "SELECT started_at, ended_at, cause, state FROM feed_gaps")
    assert started <= closed_after <= opened <= ended <= utc_now(), "from the last message to the next"
    assert "connection closed" in cause
    assert state == "ended"


async def test_a_worker_whose_lease_is_taken_lands_its_batch_and_leaves(database_url: str, tmp_path: Path) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(n) for n in range(1, 6)])
    async with feed.serve() as server:
        first = worker_on(database_url, server.stream_url, "first", tmp_path / "spool")
        async with working(first) as (old, _):
            await subscribed(database_url, 1)
            async with working(worker_on(database_url, server.stream_url, "second", tmp_path / "spool")) as (
                new,
                stop,
            ):
                feed.play(5)
                assert (await old).reason == "superseded"
                await subscribed(database_url, 2)
                await eventually(lambda: landed(database_url) == [1, 2, 3, 4, 5], "nothing is lost between the two")
                stop.set()
                assert (await new).reason == "stopped"
    assert rows(database_url, "SELECT 1 FROM feed_gaps") == []


async def test_one_that_is_to_be_relieved_asks_for_a_shift_at_once_and_lands_until_there_is_one(
    database_url: str, tmp_path: Path
) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(n) for n in range(1, 5)])
    async with feed.serve() as server:
        first = worker_on(database_url, server.stream_url, "first", tmp_path / "spool", relieved=True)
        async with working(first) as (task, _):
            await subscribed(database_url, 1)
            with connect(database_url) as connection:
                assert "the shift of first is over" in (shift_needed(read_lease(connection), utc_now()) or "")
            feed.play(2)
            await eventually(lambda: landed(database_url) == [1, 2], "it lands all the same")
            async with working(worker_on(database_url, server.stream_url, "second", tmp_path / "spool")):
                assert (await task).reason == "superseded"
                await subscribed(database_url, 2)
                feed.play(2)
                await eventually(lambda: landed(database_url) == [1, 2, 3, 4], "the shift goes on")
    assert rows(database_url, "SELECT 1 FROM feed_gaps") == []


async def test_what_came_while_it_lost_the_lease_still_lands(database_url: str, tmp_path: Path) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(1)])
    waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%FROM ingest_lease FOR%' AND wait_event_type = 'Lock'"
    async with feed.serve() as server:
        worker = worker_on(database_url, server.stream_url, "first", tmp_path / "spool")
        async with working(worker) as (task, _):
            await subscribed(database_url, 1)
            with connect(database_url) as connection, connection.transaction():
                take_lease(connection, "another", utc_now(), None)
                # The lease row is locked by this transaction: the worker hangs at its heartbeat, and hears on.
                await eventually(lambda: rows(database_url, waits), "the worker is at its heartbeat")
                feed.play(1)
                await eventually(lambda: worker._batch.received == 1, "the worker has heard it")
            assert (await task).reason == "superseded"
    assert landed(database_url) == [1]


@pytest.mark.parametrize("seconds", [-12, 3_600])
async def test_a_worker_whose_clock_is_wrong_is_taken_for_alive_and_seals_nothing_ahead(
    database_url: str, tmp_path: Path, seconds: int
) -> None:
    wrong = MonotoneClock(lambda: utc_now() + timedelta(seconds=seconds))
    feed = CapturedFeed(tmp_path, [numbered_utx(1)])
    async with feed.serve() as server:
        worker = worker_on(
            database_url, server.stream_url, "test", tmp_path / "spool", duration=timedelta(hours=2), clock=wrong
        )
        async with working(worker):
            await subscribed(database_url, 1)
            feed.play(1)
            await eventually(lambda: landed(database_url) == [1], "it has landed")
            with connect(database_url) as connection:
                lease, now = read_lease(connection), database_now(connection)
    assert lease is not None
    assert shift_needed(lease, now) is None
    assert sealed_through(lease, now) <= now
    assert shift_needed(lease, now - timedelta(hours=1)) is not None, "the database's clock was set back"


async def test_a_gap_without_any_worker_is_recorded_by_the_next(database_url: str, tmp_path: Path) -> None:
    feed = CapturedFeed(tmp_path, [])
    async with feed.serve() as server:
        async with working(worker_on(database_url, server.stream_url, "first", tmp_path / "spool")) as (task, stop):
            await subscribed(database_url, 1)
            stop.set()
            await task
        async with working(worker_on(database_url, server.stream_url, "second", tmp_path / "spool")):
            await subscribed(database_url, 2)
    assert [cause for (cause,) in rows(database_url, "SELECT cause FROM feed_gaps")] == ["no worker was running"]


async def test_a_gap_goes_on_after_a_worker_that_took_the_lease_and_landed_nothing(
    database_url: str, tmp_path: Path
) -> None:
    feed = CapturedFeed(tmp_path, [])
    async with feed.serve() as server:

        async def take_one_turn(epoch: int) -> None:
            name = f"worker {epoch}"
            async with working(worker_on(database_url, server.stream_url, name, tmp_path / "spool")) as (task, stop):
                await subscribed(database_url, epoch)
                stop.set()
                await task

        await take_one_turn(1)
        with connect(database_url) as connection:
            (heard_until,) = connection.execute("SELECT committed_through FROM ingest_lease").fetchone() or (None,)
        for name in ("killed", "killed again"):
            died = worker_on(database_url, server.stream_url, name, tmp_path / "spool")
            died._listening[0].connected = True  # it was subscribed, and heard nothing
            with connect(database_url) as connection:
                died._on_connected(connection)
        await take_one_turn(4)
    gaps = rows(database_url, "SELECT started_at, ended_at, cause FROM feed_gaps ORDER BY started_at")
    assert [cause for _, _, cause in gaps] == ["no worker was running"] * 3
    assert gaps[0][0] == heard_until
    assert [start for start, _, _ in gaps[1:]] == [end for _, end, _ in gaps[:-1]], "nothing is missing between them"
