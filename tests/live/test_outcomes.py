"""From the simulator to the phone and to the end: messages about whales say what became of them.

An hour and a half of a local feed whose clock the test moves: some whales are sent again for a higher fee, blocks take
one of the two, and the chain is read over REST.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.builders import T0
from tests.feeds import SetClock
from tests.ingest.following import worker_on
from tests.modelling import model
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.life import BURIED, insert_chain_updates
from txwatch.alerts.sender import TelegramSender
from txwatch.clock import MonotoneClock
from txwatch.detection.rules import CurrentDetectors
from txwatch.ingest.recovery import read_chain
from txwatch.ingest.rest import BlockSource, rest_client
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import LocalFeed, Played, Playlist
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.live.lane import LiveScoring
from txwatch.store.database import connect
from txwatch.wire.messages import UnconfirmedTransaction, decode

pytestmark = pytest.mark.anyio

STEP = timedelta(minutes=5)
STEPS = 18
SEED = 11
WHALE = "plant:whale"


def playlist() -> Playlist:
    return Playlist(capture=None, rate=0.1, regime="2024-03", seed=SEED, replaced_share=0.6)


def txid_of(played: Played) -> str:
    message = decode(played.message)
    assert isinstance(message, UnconfirmedTransaction)
    return message.x.hash


@dataclass
class Phone:
    """Delivers to a local Telegram whose time passes only while a dispatcher waits."""

    database_url: str
    url: str
    clock: SetClock

    async def sleep(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    async def deliver(self) -> None:
        async with TelegramSender("1:a", self.url) as sender:
            dispatcher = Dispatcher(self.database_url, sender, ("1",), clock=self.clock, sleep=self.sleep)
            await dispatcher.drain(STEP)


async def test_messages_end_with_the_block_that_confirmed_or_the_transaction_that_replaced(
    database_url: str, tmp_path: Path
) -> None:
    clock = SetClock()
    expected = playlist()
    expected.begin(T0)
    sent: list[Played] = []
    chain = Chain(seed=SEED, start=T0, mean_seconds=400)
    trained = model(minutes=20, trees=50)
    phone_clock = SetClock()
    local = LocalTelegram(phone_clock)
    stop = asyncio.Event()

    def landed() -> int:
        with connect(database_url) as connection:
            row = connection.execute("SELECT count(*) FROM transactions").fetchone()
        return int(row[0]) if row else 0

    def all_landed() -> bool:
        return landed() == len(sent)

    def heard() -> bool:
        with connect(database_url) as connection:
            return connection.execute("SELECT 1 FROM ingest_lease").fetchone() is not None

    def read_blocks(rest_url: str) -> None:
        with connect(database_url) as connection, rest_client(rest_url) as client:
            read_chain(connection, BlockSource(client, interval_seconds=0), clock)
            with connection.transaction():
                insert_chain_updates(connection, clock())

    with TelegramServer(local) as telegram:
        phone = Phone(database_url, telegram.url, phone_clock)
        async with LocalFeed(playlist=playlist(), chain=chain, clock=clock) as feed:
            scoring = LiveScoring(lambda: trained, CurrentDetectors(500), ("1",), clock=clock)
            worker = worker_on(
                database_url, feed.stream_url, "test", tmp_path / "spool", hook=scoring, clock=MonotoneClock(clock)
            )
            working = asyncio.create_task(worker.run(stop))
            try:
                await eventually(heard, "the worker follows the feed")
                for _ in range(STEPS):
                    clock.now += STEP
                    sent += expected.until(clock.now)
                    await eventually(all_landed, "what was sent has landed")
                    await asyncio.to_thread(read_blocks, feed.rest_url)
                    phone.clock.now = max(phone.clock.now, clock.now)
                    await phone.deliver()
            finally:
                stop.set()
                await asyncio.wait_for(working, PATIENCE_SECONDS)

    mined = {
        txid: summary.height
        for summary in chain.on_day(int(T0.timestamp() * 1000))
        for block in [chain.block(summary.hash)]
        if block is not None
        for txid in block.txids
    }
    instead = {txid_of(second): second.replaces for second in sent if second.replaces is not None}
    instead |= {first: second for second, first in instead.items()}
    messages = {link.rsplit("/", 1)[1]: m for m in local.received if len(m.links) == 1 for link in m.links}
    ends: Counter[str] = Counter()
    for played in sent:
        txid = txid_of(played)
        if WHALE not in played.labels or txid not in messages:
            continue
        other = instead.get(txid)
        _, news, *_ = messages[txid].text.splitlines()
        if txid in mined:
            assert news.startswith(f"✅ confirmed in block {mined[txid]:,}, ")
            assert news.endswith(" after it was seen")
            ends["confirmed, the other one was not" if other else "confirmed"] += 1
            ends["the first of two" if played.replaces is None and other else ""] += 1
        elif other in mined:
            buried = mined[other] + BURIED <= max(mined.values())
            assert news.startswith("❌ possibly replaced: ") is buried
            if buried:
                assert f" {other[:8]}… was confirmed in block {mined[other]:,} and " in news
                ends["replaced"] += 1
        else:
            assert not news.startswith(("✅", "❌"))
    assert min(ends[end] for end in ("confirmed", "confirmed, the other one was not", "replaced")) >= 3, ends
    assert ends["the first of two"] >= 1, "the miners had kept what they heard first"
