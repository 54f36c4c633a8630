"""What was spooled is landed once the database answers: a little at a time, and all of it while the reading waits."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import transaction
from tests.ingest.following import query
from txwatch.clock import utc_now
from txwatch.ingest.batch import Batch
from txwatch.ingest.lander import Lander
from txwatch.ingest.spool import Spool

pytestmark = pytest.mark.anyio

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
BATCHES = 5


def at_once() -> Generator[float]:
    while True:
        yield 0.0


async def connected(database_url: str, folder: Path) -> Lander:
    """A lander whose database has come back, and which has not yet landed what waits."""
    lander = Lander(
        database_url, Spool(folder), utc_now, on_connected=lambda _: None, delays=at_once, catch_up_seconds=0.0
    )
    for n in range(BATCHES):
        moment = T0 + timedelta(seconds=n)
        await lander.spool(Batch(moment, moment, [transaction(txid=f"{n:064x}", seen_at=moment)], received=1))
    while not lander.is_connected:
        await lander.catch_up(lambda: False)
        await asyncio.sleep(0)  # it connects in a task beside
    return lander


async def test_the_spool_is_emptied_while_the_reading_waits_for_it(fresh: str, tmp_path: Path) -> None:
    lander = await connected(fresh, tmp_path)
    await lander.catch_up(lambda: False)
    assert query(fresh, "SELECT count(*) FROM transactions") == [(0,)], "the time that it was given is over"
    assert not lander.is_idle

    await lander.catch_up(lambda: True)
    assert lander.is_idle
    assert query(fresh, "SELECT count(*) FROM transactions") == [(BATCHES,)]
    await lander.close()


async def test_it_goes_on_with_what_comes_once_there_is_room_again(fresh: str, tmp_path: Path) -> None:
    lander = await connected(fresh, tmp_path)
    crowded = iter([True, True, False])
    await lander.catch_up(lambda: next(crowded))
    assert query(fresh, "SELECT count(*) FROM transactions") == [(2,)]
    await lander.close()
