"""The live lane on a real feed, a real database and a local Telegram: landing, scores, alerts and messages at once."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.builders import numbered_utx, pay, spend
from tests.databases import empty_tables
from tests.feeds import CapturedFeed
from tests.modelling import model
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.alerts.dispatcher import Chats
from txwatch.detection.champion import Champion
from txwatch.detection.model import Model
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.live.lane import LiveLane, spare_the_collector
from txwatch.sources.chosen import ChosenSources
from txwatch.store.database import connect

pytestmark = pytest.mark.anyio

WHALE_SAT = 60_000_000_000
NOBODY = Chats()


def whale(n: int) -> bytes:
    return numbered_utx(n, inputs=[spend(WHALE_SAT + 10_000)], out=[pay(WHALE_SAT)])


class FakeRegistry:
    """Holds models by version. `away` makes it fail."""

    def __init__(self, *versions: str, champion: str | None = None) -> None:
        self.champion = champion
        self.away = False
        self._models = {version: model(minutes=20, trees=50, version=version) for version in versions}

    def champion_version(self) -> str | None:
        if self.away:
            raise ConnectionError("the registry does not answer")
        return self.champion

    def load(self, version: str) -> Model:
        return self._models[version]


@pytest.fixture(autouse=True)
def empty(database_url: str) -> None:
    """No rows are left from another test."""
    with connect(database_url) as connection:
        empty_tables(
            connection,
            "transactions, blocks, feed_gaps, ingest_lease, quarantined_messages,"
            " transaction_scores, alerts, channels, channel_requests",
        )


@pytest.fixture
def telegram() -> Iterator[tuple[LocalTelegram, Chats]]:
    """A local Telegram, and the chat on it."""
    local = LocalTelegram()
    with TelegramServer(local) as server:
        yield local, Chats(("1",), "1:a", server.url)


def rows(database_url: str, query: str) -> Sequence[tuple[Any, ...]]:
    with connect(database_url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def landed(database_url: str) -> int:
    return int(rows(database_url, "SELECT count(*) FROM transactions")[0][0])


@asynccontextmanager
async def running(
    database_url: str, feed: str | ChosenSources, spool: Path, registry: FakeRegistry, chats: Chats = NOBODY
) -> AsyncIterator[LiveLane]:
    """A lane beside the block, stopped at its end. `feed` is blockchain.info's by its address, or some sources."""
    lane = LiveLane(
        database_url=database_url,
        sources=feed if isinstance(feed, ChosenSources) else ChosenSources(("blockchain.info",), feed),
        holder="test",
        spool=spool,
        spool_bytes=1 << 20,
        registry=registry,
        whale_btc=500,
        chats=chats,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(lane.run(stop))
    try:
        # Nobody hears what a feed says before that.
        await eventually(lambda: rows(database_url, "SELECT 1 FROM ingest_lease"), "the lane follows the feed")
        yield lane
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_SECONDS)


def has_version(lane: LiveLane, version: str) -> bool:
    return lane.champion.model is not None and lane.champion.model.version == version


async def test_what_was_loaded_is_left_out_of_later_collections() -> None:
    gc.unfreeze()
    champion = Champion(FakeRegistry("1", champion="1"), spare_the_collector)
    champion.start()
    await eventually(gc.get_freeze_count, "the collector leaves alone what is there")
    champion.stop()
    assert champion.model is not None


async def test_a_whale_is_told_in_usd_by_the_price_that_the_lane_asks_for(
    database_url: str, tmp_path: Path, telegram: tuple[LocalTelegram, Chats]
) -> None:
    local, chats = telegram
    with connect(database_url) as connection:
        empty_tables(connection, "usd_prices")
    feed = CapturedFeed(tmp_path, [whale(3)])
    async with feed.serve() as server:
        sources = ChosenSources(("blockchain.info",), server.stream_url, rest_url=server.rest_url)
        async with running(database_url, sources, tmp_path / "spool", FakeRegistry(), chats):
            await eventually(lambda: rows(database_url, "SELECT 1 FROM usd_prices"), "the price is known")
            feed.play(1)
            await eventually(lambda: local.received, "the message has arrived")
    [(told, stored)] = rows(database_url, "SELECT usd, usd_price FROM usd_prices, alerts")
    assert told == stored
    assert f"600.00 BTC · {600 * told / 1e6:,.1f} M USD between unknown parties" in local.received[0].text


async def test_a_whale_is_landed_scored_and_told_of_at_once(
    database_url: str, tmp_path: Path, telegram: tuple[LocalTelegram, Chats]
) -> None:
    local, chats = telegram
    feed = CapturedFeed(tmp_path, [numbered_utx(1), numbered_utx(2), whale(3), numbered_utx(4)])
    async with (
        feed.serve() as server,
        running(database_url, server.stream_url, tmp_path / "spool", FakeRegistry("7", champion="7"), chats) as lane,
    ):
        await eventually(lambda: has_version(lane, "7"), "the champion is loaded")
        feed.play(4)
        await eventually(lambda: local.received, "the message has arrived")
        await eventually(lambda: landed(database_url) == 4, "all have landed")
    scores = rows(database_url, "SELECT txid, model_version, lane FROM transaction_scores ORDER BY txid")
    assert scores == [(f"{n:064x}", "7", "live") for n in range(1, 5)]
    [(key, kinds, late)] = rows(database_url, "SELECT alert_key, kinds, late FROM alerts")
    assert (key, late) == (f"{3:064x}", False)
    assert "whale" in kinds
    assert "600.00 BTC" in local.received[0].text
    assert len(local.received) == 1
    assert rows(database_url, "SELECT state FROM alert_deliveries") == [("sent",)]


async def test_a_whale_is_told_of_by_the_rules_before_there_is_any_model(
    database_url: str, tmp_path: Path, telegram: tuple[LocalTelegram, Chats]
) -> None:
    local, chats = telegram
    feed = CapturedFeed(tmp_path, [numbered_utx(1), whale(2)])
    async with (
        feed.serve() as server,
        running(database_url, server.stream_url, tmp_path / "spool", FakeRegistry("1"), chats),
    ):
        await eventually(lambda: rows(database_url, "SELECT 1 FROM ingest_lease"), "it has subscribed")
        feed.play(2)
        await eventually(lambda: local.received, "the message has arrived")
    assert "rules only" in local.received[0].text
    assert rows(database_url, "SELECT alert_key, model_version, late FROM alerts") == [(f"{2:064x}", None, False)]
    assert rows(database_url, "SELECT 1 FROM transaction_scores") == []


async def test_it_lands_from_the_first_second_and_follows_the_alias(database_url: str, tmp_path: Path) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(n) for n in range(1, 5)])
    registry = FakeRegistry("1", "2")
    async with (
        feed.serve() as server,
        running(database_url, server.stream_url, tmp_path / "spool", registry) as lane,
    ):
        await eventually(lambda: rows(database_url, "SELECT 1 FROM ingest_lease"), "it has subscribed")
        feed.play(1)
        await eventually(lambda: landed(database_url) == 1, "it lands without a model")
        for n, version in ((2, "1"), (3, "2"), (4, "1")):
            registry.champion = version
            await eventually(lambda v=version: has_version(lane, v), f"{version} was promoted")
            feed.play(1)
            await eventually(lambda n=n: landed(database_url) == n, f"{n} have landed")
    assert rows(database_url, "SELECT right(txid, 1), model_version FROM transaction_scores ORDER BY txid") == [
        ("2", "1"),
        ("3", "2"),
        ("4", "1"),
    ]


async def test_without_a_chat_alerts_are_raised_and_wait_for_nobody(database_url: str, tmp_path: Path) -> None:
    feed = CapturedFeed(tmp_path, [whale(1)])
    async with (
        feed.serve() as server,
        running(database_url, server.stream_url, tmp_path / "spool", FakeRegistry("1", champion="1")) as lane,
    ):
        await eventually(lambda: has_version(lane, "1"), "the champion is loaded")
        feed.play(1)
        await eventually(lambda: rows(database_url, "SELECT 1 FROM alerts"), "the alert is raised")
    assert rows(database_url, "SELECT 1 FROM alert_deliveries") == []


async def test_a_model_that_fails_costs_the_score_and_not_the_transaction(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = CapturedFeed(tmp_path, [numbered_utx(1), whale(2)])
    async with (
        feed.serve() as server,
        running(database_url, server.stream_url, tmp_path / "spool", FakeRegistry("1", champion="1")) as lane,
    ):
        await eventually(lambda: has_version(lane, "1"), "the champion is loaded")
        with monkeypatch.context() as broken:
            broken.setattr(Model, "score", lambda *_: 1 / 0)
            feed.play(1)
            await eventually(lambda: landed(database_url) == 1, "it lands all the same")
        assert rows(database_url, "SELECT 1 FROM transaction_scores") == []
        feed.play(1)
        await eventually(lambda: rows(database_url, "SELECT 1 FROM alerts"), "the next one is scored again")


def test_a_registry_that_is_away_leaves_the_champion_in_place() -> None:
    registry = FakeRegistry("1", champion="1")
    champion = Champion(registry)
    champion.refresh()
    registry.away = True
    with pytest.raises(ConnectionError):
        champion.refresh()
    assert champion.model is not None
    assert champion.model.version == "1"
