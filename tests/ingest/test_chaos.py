"""Workers as real processes, ended in every way, and a real server that goes away under them.

The short ones run with all tests; those marked `soak` take longer and run by `make soak`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import psycopg
import pytest

from tests.builders import numbered_utx, pay
from tests.conftest import database_named
from tests.ingest.feed_server import Broadcast, Stage, scripted_feed
from tests.ingest.following import FAR_OFF, LONG_AGO, ban, has_landed, landed, query, sent, until, utxs
from tests.waiting import PATIENCE_SECONDS
from txwatch.store.cluster import embedded_postgres
from txwatch.store.database import connect
from txwatch.store.migrate import migrate

pytestmark = pytest.mark.anyio

RATE = 200.0


def numbered(n: int) -> bytes:
    return numbered_utx(n, out=[pay(1_000 + n % 9_000)])


@asynccontextmanager
async def worker(
    database_url: str, stream_url: str, home: Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`txwatch ingest` as a process, ended at the end of the block if it has not ended."""
    home.mkdir(exist_ok=True)
    with (home / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "txwatch",
            "ingest",
            env=os.environ
            | {"DATABASE_URL": database_url, "TXWATCH_STREAM_URL": stream_url, "TXWATCH_HOME": str(home)}
            | environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


def missing_without_a_gap(database_url: str, broadcast: Broadcast) -> list[list[str]]:
    """The runs of messages that were sent and are not there, without a gap between what is there around them."""
    rows, messages = landed(database_url), sent(broadcast.sent)
    assert rows.items() <= messages.items(), "a row that was not sent like that"
    seen_at = dict(query(database_url, "SELECT txid, seen_at FROM transactions"))
    gaps = query(database_url, "SELECT started_at, ended_at FROM feed_gaps WHERE ended_at IS NOT NULL")
    runs = [(is_there, list(run)) for is_there, run in groupby(messages, rows.__contains__)]
    unexplained = []
    for i, (is_there, run) in enumerate(runs):
        if is_there:
            continue
        before = seen_at[runs[i - 1][1][-1]] if i > 0 else LONG_AGO
        after = seen_at[runs[i + 1][1][0]] if i + 1 < len(runs) else FAR_OFF
        if not any(before <= start and end <= after for start, end in gaps):
            unexplained.append(run)
    return unexplained


async def caught_up(database_url: str, broadcast: Broadcast, home: Path) -> None:
    """Let the feed be silent, and wait until all that was heard has been landed, also what went through the disk."""
    broadcast.stop()
    [txid] = sent(broadcast.sent[-1:])
    await until(lambda: bool(query(database_url, f"SELECT 1 FROM transactions WHERE txid = '{txid}'")))  # noqa: S608
    await until(lambda: not list(home.rglob("*.batch")))


async def test_sigterm_flushes_what_was_heard(fresh: str, tmp_path: Path) -> None:
    messages = utxs(0, 1_500)
    locked, received = asyncio.Event(), asyncio.Event()

    async def act(stage: Stage) -> None:
        await stage.send(messages[0])
        await locked.wait()
        await stage.send(*messages[1:])
        await (await stage.websocket.ping())
        received.set()
        await stage.stay()

    async with scripted_feed(act) as feed, worker(fresh, feed.url, tmp_path / "home") as process:
        await until(has_landed(fresh, 1))
        with connect(fresh) as connection, connection.transaction():
            connection.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
            locked.set()
            await asyncio.wait_for(received.wait(), PATIENCE_SECONDS)
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0
    assert landed(fresh) == sent(messages)
    assert query(fresh, "SELECT released_at IS NOT NULL FROM ingest_lease") == [(True,)]


async def test_a_worker_that_is_killed_leaves_a_gap_and_the_next_one_goes_on(fresh: str, tmp_path: Path) -> None:
    broadcast = Broadcast(numbered, RATE)
    async with scripted_feed(broadcast) as feed, broadcast.on_air():
        async with worker(fresh, feed.url, tmp_path / "home") as first:
            await until(has_landed(fresh, 100))
            first.kill()
            await first.wait()
        before = len(landed(fresh))
        async with worker(fresh, feed.url, tmp_path / "home"):
            await until(has_landed(fresh, before + 100))
            await caught_up(fresh, broadcast, tmp_path / "home")
    [(cause, ending)] = query(fresh, "SELECT cause, ending FROM feed_gaps")
    assert (cause, ending) == ("no worker was running", "epoch 2 heard the feed")
    assert missing_without_a_gap(fresh, broadcast) == []


async def test_a_hand_over_loses_nothing_and_is_no_gap(fresh: str, tmp_path: Path) -> None:
    broadcast = Broadcast(numbered, RATE)
    async with (
        scripted_feed(broadcast) as feed,
        broadcast.on_air(),
        worker(fresh, feed.url, tmp_path / "home") as first,
    ):
        await until(has_landed(fresh, 100))
        async with worker(fresh, feed.url, tmp_path / "home"):
            assert await asyncio.wait_for(first.wait(), PATIENCE_SECONDS) == 0
            before = len(landed(fresh))
            await until(has_landed(fresh, before + 100))
            await caught_up(fresh, broadcast, tmp_path / "home")
    # The first message that the first worker heard begins what must be there without a hole.
    rows = landed(fresh)
    everything = broadcast.sent
    heard = [message for message in everything if sent([message]).keys() <= rows.keys()]
    assert heard == everything[everything.index(heard[0]) : everything.index(heard[-1]) + 1]
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(0,)]
    assert query(fresh, "SELECT epoch FROM ingest_lease") == [(2,)]


async def test_of_two_workers_that_start_together_one_stays(fresh: str, tmp_path: Path) -> None:
    broadcast = Broadcast(numbered, RATE)
    async with (
        scripted_feed(broadcast) as feed,
        broadcast.on_air(),
        worker(fresh, feed.url, tmp_path / "home") as one,
        worker(fresh, feed.url, tmp_path / "home") as other,
    ):
        await until(lambda: [one.returncode, other.returncode].count(0) == 1)
        before = len(landed(fresh))
        await until(has_landed(fresh, before + 100))
        assert None in {one.returncode, other.returncode}
        await caught_up(fresh, broadcast, tmp_path / "home")
    assert missing_without_a_gap(fresh, broadcast) == []
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(0,)]


async def test_an_orphaned_spool_is_adopted(fresh: str, server_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    broadcast = Broadcast(numbered, RATE)
    async with scripted_feed(broadcast) as feed:
        async with broadcast.on_air(), worker(fresh, feed.url, home) as first:
            await until(has_landed(fresh, 100))
            ban(server_url, fresh, True)
            await until(lambda: len(list(home.rglob("*.batch"))) >= 4)
            first.kill()
            await first.wait()
        ban(server_url, fresh, False)
        async with broadcast.on_air(), worker(fresh, feed.url, home):
            await until(lambda: not list(home.rglob("*.batch")))
            await until(has_landed(fresh, 300))
            await caught_up(fresh, broadcast, tmp_path / "home")
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(1,)]
    assert missing_without_a_gap(fresh, broadcast) == []
    assert not list((home / "spool").iterdir())


async def test_a_full_spool_is_said_and_is_a_gap(fresh: str, server_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    broadcast = Broadcast(numbered, 2_000)
    async with (
        scripted_feed(broadcast) as feed,
        broadcast.on_air(),
        worker(fresh, feed.url, home, TXWATCH_SPOOL_MB="1"),
    ):
        await until(has_landed(fresh, 100))
        ban(server_url, fresh, True)
        await until(lambda: "spool_full" in (home / "worker.log").read_text())
        full_at = datetime.now().astimezone()
        ban(server_url, fresh, False)
        await until(
            lambda: query(fresh, "SELECT max(seen_at) FROM transactions")[0][0] > full_at + timedelta(seconds=1)
        )
        await caught_up(fresh, broadcast, tmp_path / "home")
    # A smaller batch may find room where a larger one did not, before the database is back: one gap, or some.
    gaps = query(fresh, "SELECT cause, ending FROM feed_gaps")
    assert gaps
    for cause, ending in gaps:
        assert "raise TXWATCH_SPOOL_MB" in cause
        assert ending == "there was room again"
    assert missing_without_a_gap(fresh, broadcast) == []


async def stop_the_server_under_load(tmp_path: Path, seconds: float, rate: float) -> None:
    """Stop the whole server under a worker for a while: nothing is missing, nothing is a gap."""
    broadcast = Broadcast(numbered, rate)
    home = tmp_path / "home"
    async with scripted_feed(broadcast) as feed:
        with embedded_postgres(tmp_path / "pg") as server_url:
            with psycopg.connect(server_url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE product")
            url = database_named(server_url, "product")
            await asyncio.to_thread(migrate, url)
            stack = broadcast.on_air()
            await stack.__aenter__()
            running = worker(url, feed.url, home)
            process = await running.__aenter__()
            await until(has_landed(url, 100))
        stopped_at = len(broadcast.sent)
        await asyncio.sleep(seconds)  # the outage is what is tested
        with embedded_postgres(tmp_path / "pg"):
            await until(has_landed(url, stopped_at + int(seconds * rate * 0.9)))
            await caught_up(url, broadcast, home)
            await stack.__aexit__(None, None, None)
            await running.__aexit__(None, None, None)
            assert process.returncode == 0
            assert missing_without_a_gap(url, broadcast) == []
            assert query(url, "SELECT count(*) FROM feed_gaps") == [(0,)]
            assert query(url, "SELECT epoch FROM ingest_lease") == [(1,)]


async def test_a_server_that_is_stopped_under_load_costs_nothing(tmp_path: Path) -> None:
    await stop_the_server_under_load(tmp_path, seconds=3, rate=RATE)


@pytest.mark.soak
async def test_a_server_that_is_stopped_for_20_s_under_load_costs_nothing(tmp_path: Path) -> None:
    await stop_the_server_under_load(tmp_path, seconds=20, rate=1_000)


@pytest.mark.soak
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_thirty_workers_one_after_another_are_ended_and_every_hole_is_a_gap(
    fresh: str, tmp_path: Path, ending: signal.Signals
) -> None:
    broadcast = Broadcast(numbered, RATE)
    async with scripted_feed(broadcast) as feed, broadcast.on_air():
        for delay in [0.1 * n for n in range(30)]:
            async with worker(fresh, feed.url, tmp_path / "home") as process:
                before = len(landed(fresh))
                await until(has_landed(fresh, before + 20))
                await asyncio.sleep(delay)  # each is ended at another moment of its work
                process.send_signal(ending)
                await process.wait()
        async with worker(fresh, feed.url, tmp_path / "home"):
            before = len(landed(fresh))
            await until(has_landed(fresh, before + 20))
            await caught_up(fresh, broadcast, tmp_path / "home")
    assert missing_without_a_gap(fresh, broadcast) == []
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(30,)]
