"""What was spooled is landed once the database answers: a little at a time, and all of it while the reading waits."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import transaction
from tests.ingest.following import query
from txwatch.ingest.batch import Batch
from txwatch.ingest.lander import Lander
from txwatch.ingest.spool import Spool
from txwatch.store.database import Connection
from txwatch.store.lease import take_lease

pytestmark = pytest.mark.anyio

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
BATCHES = 5


def at_once() -> Generator[float]:
    while True:
        yield 0.0


def at(second: int) -> datetime:
    return T0 + timedelta(seconds=second)


def batch(second: int, size: int = 1) -> Batch:
    moment = at(second)
    rows = [transaction(txid=f"{second * 1_000 + n:064x}", seen_at=moment) for n in range(size)]
    return Batch(moment, moment, rows, received=size)


def lander_of(database_url: str, spool: Spool) -> Lander:
    return Lander(database_url, spool, on_connected=lambda _: None, delays=at_once, catch_up_seconds=0.0)


async def connect(lander: Lander) -> None:
    while not lander.is_connected:
        await lander.catch_up(lambda: False)
        await asyncio.sleep(0)  # it connects in a task beside


async def connected(database_url: str, folder: Path) -> Lander:
    """A lander whose database has come back, and which has not yet landed what waits."""
    lander = lander_of(database_url, Spool(folder))
    for n in range(BATCHES):
        await lander.spool(batch(n))
    await connect(lander)
    return lander


async def test_the_spool_is_emptied_while_the_reading_waits_for_it(fresh: str, tmp_path: Path) -> None:
    lander = await connected(fresh, tmp_path)
    await lander.catch_up(lambda: False)
    assert query(fresh, "SELECT count(*) FROM transactions") == [(0,)], "the time that it was given is over"

    await lander.catch_up(lambda: True)
    assert query(fresh, "SELECT count(*) FROM transactions") == [(BATCHES,)]
    await lander.close()


async def test_it_goes_on_with_what_comes_once_there_is_room_again(fresh: str, tmp_path: Path) -> None:
    lander = await connected(fresh, tmp_path)
    crowded = iter([True, True, False])
    await lander.catch_up(lambda: next(crowded))
    assert query(fresh, "SELECT count(*) FROM transactions") == [(2,)]
    await lander.close()


async def test_a_smaller_batch_finds_room_where_a_larger_one_did_not(fresh: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=20_000)
    lander = lander_of(fresh, spool)
    lost = [len(await lander.put(batch(second, size))) for second, size in enumerate([20, 100, 1, 100, 100, 1])]
    assert lost == [0, 100, 0, 100, 100, 0]
    await connect(lander)
    await lander.catch_up(lambda: True)
    assert query(fresh, "SELECT seen_at, count(*) FROM transactions GROUP BY 1 ORDER BY 1") == [
        (at(0), 20),
        (at(2), 1),
        (at(5), 1),
    ]
    assert query(fresh, "SELECT started_at, ended_at, ending FROM feed_gaps ORDER BY 1") == [
        (at(1), at(2), "there was room again"),
        (at(3), at(5), "there was room again"),
    ]
    await lander.close()


async def test_who_leaves_before_its_new_connection_was_used_gives_the_lease_back(fresh: str, tmp_path: Path) -> None:
    epochs: list[int] = []
    has_it = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(connection: Connection) -> int:
        epochs.append(take_lease(connection, "test", T0, None))
        loop.call_soon_threadsafe(has_it.set)
        return epochs[0]

    lander = Lander(fresh, Spool(tmp_path), on_connected=take, delays=at_once)
    await lander.catch_up(lambda: False)
    await has_it.wait()
    await lander.leave(epochs[0])
    assert query(fresh, "SELECT released_at IS NOT NULL FROM ingest_lease") == [(True,)]
    await lander.close()
