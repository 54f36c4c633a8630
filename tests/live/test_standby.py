"""Of several workers one follows the feed, and another goes on when it leaves or dies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from tests.builders import T0, numbered_utx
from tests.feeds import CapturedFeed
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.alerts.dispatcher import Chats
from txwatch.ingest.worker import Shift
from txwatch.live.lane import LiveLane
from txwatch.live.standby import STALE_FOR, Vacancy, stand_by
from txwatch.sources.chosen import ChosenSources
from txwatch.store.database import connect, scalar
from txwatch.store.lease import STALE_AFTER, Lease, take_lease

SECOND = timedelta(seconds=1)


class NoModels:
    """A registry without a champion."""

    def champion_version(self) -> str | None:
        return None

    def load(self, version: str) -> object:
        raise AssertionError(version)


def lease(heartbeat_at: datetime, released_at: datetime | None = None) -> Lease:
    return Lease(3, "another", T0, heartbeat_at, None, released_at, heartbeat_at, heartbeat_at, 0, 0, 0)


def test_the_lease_is_free_when_nobody_has_had_it_or_its_holder_has_left() -> None:
    assert Vacancy().seen(None, T0)
    assert Vacancy().seen(lease(T0, released_at=T0), T0)
    assert not Vacancy().seen(lease(T0), T0 + STALE_AFTER)


def test_a_holder_that_is_not_heard_of_has_a_while_to_come_back() -> None:
    vacancy, found = Vacancy(), T0 + STALE_AFTER + SECOND
    assert not vacancy.seen(lease(T0), found)
    assert not vacancy.seen(lease(T0), found + STALE_FOR - SECOND)
    assert vacancy.seen(lease(T0), found + STALE_FOR)


def test_the_while_begins_again_after_a_heartbeat_and_after_an_outage_of_the_database() -> None:
    vacancy, found = Vacancy(), T0 + STALE_AFTER + SECOND
    vacancy.seen(lease(T0), found)
    vacancy.seen(lease(found + SECOND), found + SECOND)
    assert not vacancy.seen(lease(found + SECOND), found + STALE_AFTER + 2 * SECOND)
    vacancy.forget()
    assert not vacancy.seen(lease(found + SECOND), found + STALE_AFTER + 2 * STALE_FOR)


@asynccontextmanager
async def standing_by(
    database_url: str, lane: Callable[[], LiveLane], ended: Callable[[Shift], None] = lambda _: None
) -> AsyncIterator[asyncio.Event]:
    """A worker beside the block, stopped by the event or at the end."""
    stop = asyncio.Event()
    work = stand_by(database_url, lane, stop, ended=ended, stale_for=timedelta(0), look_every=0.02)
    task = asyncio.create_task(work)
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_SECONDS)


def holder(database_url: str) -> str | None:
    with connect(database_url) as connection:
        return scalar(connection, "SELECT holder FROM ingest_lease WHERE released_at IS NULL")  # type: ignore[no-any-return]


@pytest.mark.anyio
async def test_the_one_that_stands_by_goes_on_when_the_other_leaves_and_waits_when_it_is_relieved(
    database_url: str, tmp_path: Path
) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(n) for n in range(1, 5)])
    shifts: list[Shift] = []
    async with feed.serve() as server:
        numbers = count(1)

        def lanes(name: str) -> Callable[[], LiveLane]:
            return lambda: LiveLane(
                database_url=database_url,
                sources=ChosenSources(("blockchain.info",), server.stream_url),
                holder=f"{name} {next(numbers)}",
                spool=tmp_path / name,
                spool_bytes=1 << 20,
                registry=NoModels(),  # type: ignore[arg-type]
                whale_btc=500,
                chats=Chats(),
            )

        async with standing_by(database_url, lanes("a")) as first:
            await eventually(lambda: holder(database_url) == "a 1", "the first follows the feed")
            async with standing_by(database_url, lanes("b"), shifts.append):
                feed.play(2)
                await eventually(lambda: count_of(database_url) == 2, "both have landed")
                assert holder(database_url) == "a 1"
                first.set()
                await eventually(lambda: holder(database_url) == "b 2", "the second follows the feed")
                feed.play(2)
                await eventually(lambda: count_of(database_url) == 4, "all have landed")
                with connect(database_url) as connection:
                    now = scalar(connection, "SELECT clock_timestamp()")
                    take_lease(connection, "a run", now, None)
                await eventually(lambda: shifts, "the second is relieved")
                assert shifts[0].reason == "superseded"
                await eventually(lambda: (holder(database_url) or "").startswith("b "), "it takes over from the dead")
    assert shifts[-1].reason == "stopped"


def count_of(database_url: str) -> int:
    with connect(database_url) as connection:
        return int(scalar(connection, "SELECT count(*) FROM transactions"))
