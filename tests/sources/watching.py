"""A worker that follows nodes, and what it landed beside what the nodes say."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.ingest.following import FAR_OFF, LONG_AGO, Following, fast, query, until
from tests.sources.node import Node
from txwatch.clock import MonotoneClock
from txwatch.ingest.lander import LandingHook
from txwatch.ingest.worker import IngestWorker
from txwatch.sources.bitcoin_core import BitcoinCore
from txwatch.sources.bitcoin_rpc import BitcoinRpc
from txwatch.store.database import connect
from txwatch.store.transactions import read_transactions
from txwatch.wire.transaction import UNCONFIRMED, Transaction


@asynccontextmanager
async def watching(
    database_url: str, spool: Path, *nodes: Node, silence_seconds: float = 2, hook: LandingHook | None = None
) -> AsyncIterator[Following]:
    """A worker beside the block, once it hears all nodes and has the lease."""
    clock = MonotoneClock()
    names = ["bitcoin-core", *(f"bitcoin-core-{n}" for n in range(2, len(nodes) + 1))]
    sources = [
        BitcoinCore(name, clock, BitcoinRpc(node.rpc_url), node.zmq_url, silence_seconds=silence_seconds)
        for node, name in zip(nodes, names, strict=True)
    ]
    before = epoch(database_url)
    worker = IngestWorker(database_url, sources, "test", spool, clock, delays=fast, hook=hook)
    stop = asyncio.Event()
    running = Following(worker, stop, asyncio.create_task(worker.run(stop)))
    try:
        heard = "SELECT count(*) FROM feed_sources WHERE connected"
        await until(lambda: epoch(database_url) > before and query(database_url, heard)[0][0] == len(nodes))
        yield running
    finally:
        await running.stop()


def epoch(database_url: str) -> int:
    """How often the lease was taken."""
    return int((query(database_url, "SELECT epoch FROM ingest_lease") or [(0,)])[0][0])


def stored(database_url: str) -> dict[str, Transaction]:
    """Every transaction, by txid; none is there twice."""
    with connect(database_url) as connection:
        rows = read_transactions(connection, LONG_AGO, FAR_OFF)
    assert len({tx.txid for tx in rows}) == len(rows)
    return {tx.txid: tx for tx in rows}


async def landed(database_url: str, txids: Iterable[str]) -> dict[str, Transaction]:
    """Wait until these are stored, and nothing else is."""
    wanted = set(txids)
    await until(lambda: wanted <= stored(database_url).keys())
    found = await asyncio.to_thread(stored, database_url)
    assert found.keys() == wanted
    return found


def satoshi(btc: Decimal) -> int:
    return int(btc * 100_000_000)


def entries(node: Node) -> dict[str, Any]:
    """What the node's mempool holds, with fees and sizes."""
    held: dict[str, Any] = node.call("getrawmempool", True)
    return held


def assert_as_told(found: Transaction, entry: dict[str, Any]) -> None:
    """Fee, weight and vsize are those of the node, and of every coin its value and age are known."""
    told = satoshi(entry["fees"]["base"]), entry["weight"], entry["vsize"]
    assert (found.fee_sat, found.weight, found.vsize) == told, found.txid
    assert all(coin.value is not None and coin.height is not None for coin in found.inputs)


def assert_ages(database_url: str, node: Node, blocks: Iterable[str]) -> int:
    """Coins are as old as the blocks that spent them say. Returns how many were looked at."""
    found = stored(database_url)
    looked = 0
    for block_hash in blocks:
        block = node.call("getblock", block_hash, 3)
        for told in block["tx"][1:]:
            tx = found[told["txid"]]
            assert tx.tip_height is not None
            for coin, spent in zip(tx.inputs, told["vin"], strict=True):
                prevout = spent["prevout"]
                assert (coin.txid, coin.n, coin.value) == (spent["txid"], spent["vout"], satoshi(prevout["value"]))
                assert coin.addr == prevout["scriptPubKey"].get("address")
                if coin.height == UNCONFIRMED:
                    assert prevout["height"] > tx.tip_height, "it was in a block when it was spent"
                else:
                    assert (coin.height, coin.coinbase) == (prevout["height"], prevout["generated"])
                looked += 1
            for created, output in zip(tx.outputs, told["vout"], strict=True):
                assert (created.addr, created.value) == (
                    output["scriptPubKey"].get("address"),
                    satoshi(output["value"]),
                )
    return looked


def removals(database_url: str) -> dict[str, str | None]:
    """What left a mempool without a block, and by which transaction it was replaced."""
    return dict(query(database_url, "SELECT txid, replaced_by FROM removals"))
