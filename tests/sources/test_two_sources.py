"""Two sources, each of which loses one message of a hundred: what either told is landed, and who told it is known."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.ingest.following import Following, fast, query, until
from txwatch.clock import utc_now
from txwatch.ingest.recovery import read_chain
from txwatch.ingest.rest import block_source
from txwatch.ingest.worker import IngestWorker
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import LocalFeed, Playlist
from txwatch.lab.simulator.subscribers import MEMPOOL_SPACE_PATH, Protocol
from txwatch.sources.blockchain_info import BlockchainInfo
from txwatch.sources.mempool_space import MempoolSpace
from txwatch.sources.websocket import MAX_MESSAGE_BYTES
from txwatch.store.database import connect as connect_database

pytestmark = pytest.mark.anyio

SEED = 2
"""Loses one of the first hundred polls, and not one of the first ten."""


class HeldClock:
    """Stands still, and runs while it is let go."""

    def __init__(self) -> None:
        self._behind = timedelta(0)
        self._held: datetime | None = utc_now().astimezone(UTC)

    def __call__(self) -> datetime:
        return self._held or utc_now() - self._behind

    def let_go(self) -> None:
        self._behind, self._held = utc_now() - self(), None

    def hold(self) -> None:
        self._held = self()


class Listener:
    """A client that notes the txids that a protocol told to all, in two forms: alone, or as changes of a mempool."""

    def __init__(self) -> None:
        self.told: set[str] = set()
        self.sequences: list[int] = []

    async def listen(self, client: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = json.loads(await client.recv())
                if message.get("op") == "utx":
                    self.told.add(message["x"]["hash"])
                if (changes := message.get("mempool-transactions")) is not None:
                    self.sequences.append(changes["sequence"])
                    self.told |= {tx["txid"] for tx in changes["added"]}


def sighted(database_url: str, source: str) -> set[str]:
    return {txid for txid, by in query(database_url, "SELECT txid, source FROM sightings") if by == source}


async def test_two_sources_lose_nothing_that_either_saw(fresh: str, tmp_path: Path) -> None:
    clock = HeldClock()
    chain = Chain(seed=1, start=clock(), mean_seconds=1e9)
    playlist = Playlist(capture=None, rate=200.0, regime="2024-03", seed=1, replaced_share=0.0)
    feed = LocalFeed(
        playlist=playlist,
        chain=chain,
        clock=clock,
        poll_seconds=0.1,
        lost=dict.fromkeys(Protocol, 0.01),
        seed=SEED,
    )
    info, space = Listener(), Listener()
    async with feed:
        sources = [BlockchainInfo(feed.stream_url, clock), MempoolSpace(feed.rest_url, clock)]
        worker = IngestWorker(fresh, sources, "test", tmp_path, clock, delays=fast)
        stop = asyncio.Event()
        following = Following(worker, stop, asyncio.create_task(worker.run(stop)))
        async with (
            connect(feed.stream_url, max_size=MAX_MESSAGE_BYTES) as one,
            connect(f"ws{feed.rest_url[4:]}{MEMPOOL_SPACE_PATH}", max_size=MAX_MESSAGE_BYTES) as other,
        ):
            await one.send('{"op":"unconfirmed_sub"}')
            await other.send('{"track-mempool":true}')
            listening = [asyncio.create_task(it.listen(c)) for it, c in ((info, one), (space, other))]
            await until(lambda: sum(client.transactions for client in list(feed._subscribers._all)) == 4)
            clock.let_go()
            await until(hole_in(space.sequences))
            ended = "SELECT count(*) FROM feed_gaps WHERE source = 'mempool.space' AND ended_at IS NOT NULL"
            await until(lambda: query(fresh, ended)[0][0] >= 1)
            at = clock()
            clock.hold()
            everything = {txid for txid, served in chain.mempool.items() if served.at < at - timedelta(seconds=1)}
            await until(lambda: info.told <= sighted(fresh, "blockchain.info"))
            await until(lambda: space.told <= sighted(fresh, "mempool.space"))
            # Also what no poll has told yet: a source is not complete for being asked after the block.
            chain.next_block_at = clock()
            await until(lambda: query(fresh, "SELECT count(*) FROM blocks") == [(1,)])
            [(block_hash,)] = query(fresh, "SELECT hash FROM blocks")
            await asyncio.to_thread(read_blocks, fresh, feed.rest_url)
            for task in listening:
                task.cancel()
            await following.stop()
    by_info, by_space = sighted(fresh, "blockchain.info"), sighted(fresh, "mempool.space")
    landed = [txid for (txid,) in query(fresh, "SELECT txid FROM transactions")]
    assert by_info == info.told, "a sighting is what a source told, and nothing else"
    missed = by_space - space.told
    [(asked_at,)] = query(fresh, "SELECT min(ended_at) FROM feed_gaps WHERE source = 'mempool.space'")
    heard_before = "SELECT txid FROM sightings WHERE source = 'blockchain.info' AND seen_at < %s"
    known = {txid for (txid,) in query(fresh, heard_before, [asked_at])}
    assert known, "much was told before"
    assert not missed & known, "it was asked for what nobody had told"
    assert sorted(landed) == sorted(by_info | by_space), "each is landed once"
    assert by_info - by_space, "what one has lost the other has told"
    assert by_space - by_info
    known_before_its_end = everything - space.told
    assert known_before_its_end <= set(landed), "after it was asked nothing of its mempool is missing"
    [(recovered, cause)] = query(
        fresh, "SELECT recovered, cause FROM feed_gaps WHERE source = 'mempool.space' ORDER BY started_at LIMIT 1"
    )
    assert recovered >= len(missed)
    assert "after change" in cause
    assert query(fresh, "SELECT count(*) FROM feed_gaps WHERE source = 'blockchain.info'") == [(0,)]
    assert_completeness(fresh, chain, block_hash, {"blockchain.info": by_info, "mempool.space": by_space})
    spent = query(fresh, "SELECT count(DISTINCT (prev_txid, vout)) FROM spends")
    assert spent[0][0] > 0


def read_blocks(database_url: str, rest_url: str) -> None:
    with connect_database(database_url) as connection, block_source(rest_url, 0) as source:
        assert not read_chain(connection, source, utc_now).failures


def assert_completeness(database_url: str, chain: Chain, block_hash: str, told: dict[str, set[str]]) -> None:
    """What was measured of the block is what each source told of it, and both together miss nothing of that."""
    block = chain.block(block_hash)
    assert block is not None
    mined = set(block.txids)
    measured = "SELECT source, mined_count, seen_before_count FROM block_completeness ORDER BY 1"
    expected = [(source, len(mined), len(mined & by_source)) for source, by_source in told.items()]
    assert query(database_url, measured) == expected
    assert all(0.9 < before / of < 1 for _, of, before in expected), "some of it is lost, and most is not"
    together = len(mined & set().union(*told.values()))
    assert together > max(before for _, _, before in expected)
    assert query(database_url, "SELECT mined_count, seen_before_count FROM blocks") == [(len(mined), together)]


def hole_in(sequences: list[int]) -> Callable[[], bool]:
    return lambda: len(sequences) < (sequences[-1] if sequences else 0)
