"""Blocks come from the node that is followed, and over REST where it has none, unless nodes alone are followed."""

import asyncio
from pathlib import Path

import pytest

from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from tests.builders import numbered_utx, pay
from tests.sources.node import Node, needs_node, running_node
from txwatch.clock import utc_now
from txwatch.ingest.rest import RestError
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import LocalFeed, Playlist

pytestmark = [pytest.mark.anyio, needs_node]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ingestion(node: Node, rest_url: str, *sources: str) -> IngestionResource:
    database = DatabaseResource(url="postgresql://nobody@127.0.0.1:1/nowhere")
    return IngestionResource(
        database=database,
        model_registry=ModelRegistryResource(tracking_uri="", home="", database_url=database.url),
        telegram=TelegramResource(token="", chats=[]),
        sources=list(sources),
        stream_url="",
        rest_url=rest_url,
        rest_interval_seconds=0,
        spool="",
        whale_btc=500,
        bitcoin_rpc_url=node.rpc_url,
        bitcoin_zmq_url=node.zmq_url,
    )


async def test_a_block_that_the_node_does_not_have_comes_over_rest(tmp_path: Path) -> None:
    chain = Chain(seed=1, start=utc_now(), mean_seconds=1e9)
    chain.served(numbered_utx(1, out=[pay(5_000)]), utc_now())
    of_the_feed = chain.mine(utc_now())
    playlist = Playlist(capture=None, rate=1.0, regime="2024-03", seed=1)
    with running_node(tmp_path) as node:
        async with LocalFeed(playlist=playlist, chain=chain) as feed:
            await asyncio.to_thread(look, node, feed.rest_url, of_the_feed.hash)


def look(node: Node, rest_url: str, of_the_feed: str) -> None:
    of_the_node, today = node.tip(), utc_now().date()
    with ingestion(node, rest_url, "blockchain.info", "bitcoin-core").blocks() as blocks:
        found = [blocks.block(block_hash) for block_hash in (of_the_feed, of_the_node)]
        assert [(block.hash, block.network) for block in found if block] == [
            (of_the_feed, "main"),
            (of_the_node, "regtest"),
        ]
        assert blocks.block("0" * 63 + "1") is None
        assert {of_the_feed, of_the_node} <= {block.hash for block in blocks.blocks_of(today)}
        node.kill()
        assert (block := blocks.block(of_the_feed)) is not None
        assert block.n_tx == 1
        assert of_the_feed in {block.hash for block in blocks.blocks_of(today)}
    with ingestion(node, rest_url, "bitcoin-core").blocks() as blocks, pytest.raises(RestError):
        blocks.block(of_the_feed)
    with ingestion(node, rest_url, "blockchain.info").blocks() as blocks:
        assert blocks.block(of_the_node) is None
