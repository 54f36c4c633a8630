"""How fast a real node's transactions become rows with every coin known, live and after an outage.

All coins can be spent without a signature, so that making transactions costs nothing beside. The baseline is the
obvious way, the node's `getrawtransaction` for each coin; the limit is its batched `gettxout` alone, for these coins.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.harness import Bench, Measurement
from tests.ingest.following import until
from tests.sources.node import NO_NODE, Node, bitcoind
from txwatch.clock import MonotoneClock
from txwatch.ingest.worker import IngestWorker
from txwatch.live.lane import spare_the_collector
from txwatch.sources.bitcoin_core import NAME, BitcoinCore
from txwatch.sources.bitcoin_node import UnspentOutput
from txwatch.sources.bitcoin_rpc import BitcoinRpc
from txwatch.sources.source import Missed, Told
from txwatch.store.database import connect, scalar
from txwatch.wire.addresses import REGTEST, script_address
from txwatch.wire.raw import decode_raw

COUNT = 10_000
LIVE_RATE, LIVE_SECONDS = 100, 30
BASELINE = 100
ATTEMPTS = 3
"""Of the limit and of what is held against it; the best of each counts."""
INPUTS = 2
OUTPUTS_OF_PARENT = 300
COIN_SAT, FEE_SAT = 500_000, 1_000
WITNESS_SCRIPT = b"\x51"
LOCK = b"\0\x20" + sha256(WITNESS_SCRIPT).digest()
Outpoint = tuple[str, int]


def measure(bench: Bench) -> Iterator[Measurement]:
    if bitcoind() is None:
        print(f"left out: {NO_NODE}", file=sys.stderr)
        return
    spare_the_collector()  # as the live lane does
    # So that its queues hold a burst until it is read: what is measured is how soon that is done.
    queues = [f"-zmqpub{topic}hwm=1000000" for topic in ("rawtx", "sequence")]
    # A node on regtest else compares all of its mempool with its coins after each transaction, as no other does.
    node = Node(bench.folder / "node", *queues, "-checkmempool=0", "-checkblockindex=0")
    try:
        node.start()
        yield from asyncio.run(measured(bench, node))
    finally:
        node.stop()


async def measured(bench: Bench, node: Node) -> list[Measurement]:
    count, live = bench.size(COUNT), bench.size(LIVE_RATE * LIVE_SECONDS)
    coins, block_of = make_coins(node, INPUTS * (count + live))
    spends = [spend(coins[n : n + INPUTS]) for n in range(0, len(coins), INPUTS)]
    rpc = BitcoinRpc(node.rpc_url)
    limit = max(batched(rpc, coins[: INPUTS * count]) for _ in range(ATTEMPTS))
    before = one_by_one(rpc, coins[:: len(coins) // (INPUTS * BASELINE)], block_of)

    after_outage = bench.database()
    async with worker(after_outage, node, bench.folder / "spool-outage"):
        pass
    bursts = [(bench.database(), asyncio.Event()) for _ in range(ATTEMPTS)]
    async with AsyncExitStack() as workers:
        for n, (database, gate) in enumerate(bursts):
            await workers.enter_async_context(worker(database, node, bench.folder / f"spool-burst-{n}", gate))
        await asyncio.to_thread(broadcast, rpc, spends[:count])
        sustained = max([await landed(database, count, gate) for database, gate in bursts])
    began = time.perf_counter()
    async with worker(after_outage, node, bench.folder / "spool-outage"):
        await until_stored(after_outage, count)
        resync = time.perf_counter() - began
        latency = await live_latency(after_outage, rpc, spends[count:])
    for database in (after_outage, *(database for database, _ in bursts)):
        with connect(database) as connection:
            unknown = "SELECT count(*) FROM transactions WHERE fee_sat IS NULL"
            assert scalar(connection, unknown) == 0
    rpc.close()
    return [
        Measurement("node_gettxout_alone", limit, "tx/s", why="batched gettxout of two coins each"),
        Measurement("node_call_a_coin", before, "tx/s", why="getrawtransaction of each coin's parent"),
        Measurement(
            "node_to_rows", sustained, "tx/s", before, limit, at_least=10 * before, why="a call a coin; gettxout alone"
        ),
        Measurement("node_to_rows_of_limit", sustained / limit, "ratio", at_least=0.4, why="its rate over its limit"),
        Measurement("node_resync", resync, "s", at_most=30, why=f"start of a worker until {count:,} missed are rows"),
        Measurement("node_live_p99", latency, "ms", at_most=1_000, why=f"sent until it is a row, at {LIVE_RATE} tx/s"),
    ]


def make_coins(node: Node, count: int) -> tuple[list[Outpoint], dict[str, str]]:
    """So many confirmed coins, and the block of each transaction that made some."""
    parents = -(-count // OUTPUTS_OF_PARENT)
    address = script_address(LOCK, REGTEST)
    hashes = node.call("generatetoaddress", 100 + parents, address)
    coins: list[Outpoint] = []
    block_of: dict[str, str] = {}
    waiting: list[str] = []
    for n, block_hash in enumerate(hashes[:parents]):
        coinbase = node.call("getblock", block_hash)["tx"][0]
        raw = serialized([(coinbase, 0)], [(COIN_SAT, LOCK)] * OUTPUTS_OF_PARENT)
        waiting.append(node.broadcast(raw.hex()))
        coins += [(waiting[-1], vout) for vout in range(OUTPUTS_OF_PARENT)]
        if len(waiting) == 20 or n == parents - 1:
            (mined,) = node.call("generatetoaddress", 1, address)
            block_of |= dict.fromkeys(waiting, mined)
            waiting.clear()
    return coins[:count], block_of


def serialized(inputs: Sequence[Outpoint], outputs: Sequence[tuple[int, bytes]]) -> bytes:
    """A transaction that spends coins which anybody can."""
    spent = b"".join(
        bytes.fromhex(txid)[::-1] + vout.to_bytes(4, "little") + b"\0\xfd\xff\xff\xff" for txid, vout in inputs
    )
    made = b"".join(value.to_bytes(8, "little") + bytes([len(script)]) + script for value, script in outputs)
    count = bytes([len(outputs)]) if len(outputs) < 0xFD else b"\xfd" + len(outputs).to_bytes(2, "little")
    witness = b"\1\1" + WITNESS_SCRIPT
    return b"\2\0\0\0\0\1" + bytes([len(inputs)]) + spent + count + made + witness * len(inputs) + b"\0" * 4


def spend(coins: Sequence[Outpoint]) -> bytes:
    return serialized(coins, [(len(coins) * COIN_SAT - FEE_SAT, LOCK)])


def broadcast(rpc: BitcoinRpc, transactions: Sequence[bytes]) -> None:
    assert None not in rpc.batch(str, "sendrawtransaction", [(raw.hex(),) for raw in transactions])


def batched(rpc: BitcoinRpc, coins: Sequence[Outpoint]) -> float:
    """Transactions a second whose coins the node gives by batches of `gettxout`."""
    began = time.perf_counter()
    rpc.batch(UnspentOutput, "gettxout", [(*coin, False) for coin in coins])
    return len(coins) / INPUTS / (time.perf_counter() - began)


def one_by_one(rpc: BitcoinRpc, coins: Sequence[Outpoint], block_of: dict[str, str]) -> float:
    """The same by a call for the transaction that made each coin."""
    began = time.perf_counter()
    for txid, _ in coins:
        rpc.call(_Parent, "getrawtransaction", txid, True, block_of[txid])
    return len(coins) / INPUTS / (time.perf_counter() - began)


class _ParentOutput(msgspec.Struct):
    value: float


class _Parent(msgspec.Struct):
    vout: list[_ParentOutput]


class Held(BitcoinCore):
    """A node that is not listened to until a gate opens: what it tells waits."""

    gate: asyncio.Event | None = None

    async def events(self) -> AsyncGenerator[Told | Missed]:
        if self.gate is not None:
            await self.gate.wait()
        async for event in super().events():
            yield event


@asynccontextmanager
async def worker(
    database_url: str, node: Node, spool: Path, gate: asyncio.Event | None = None
) -> AsyncGenerator[IngestWorker]:
    """A worker beside the block, once it is connected."""
    clock = MonotoneClock()
    source = Held(NAME, clock, BitcoinRpc(node.rpc_url), node.zmq_url)
    source.gate = gate
    it = IngestWorker(database_url, [source], "bench", spool, clock)
    stop = asyncio.Event()
    running = asyncio.create_task(it.run(stop))
    try:
        await until(lambda: one(database_url, "SELECT count(*) FROM feed_sources WHERE connected") > 0)
        yield it
    finally:
        stop.set()
        await running


def one(database_url: str, query: str) -> int:
    with connect(database_url) as connection:
        return int(scalar(connection, query))


async def landed(database_url: str, count: int, gate: asyncio.Event) -> float:
    """Transactions a second that one worker lands of a burst which waits for it, from when its gate is opened."""
    began = time.perf_counter()
    gate.set()
    await until_stored(database_url, count)
    return count / (time.perf_counter() - began)


async def until_stored(database_url: str, count: int) -> None:
    # By one connection: to open one for each look takes more time from what is measured than all of its landing.
    with connect(database_url) as connection:
        await until(lambda: int(scalar(connection, "SELECT count(*) FROM transactions")) >= count)


async def live_latency(database_url: str, rpc: BitcoinRpc, spends: Sequence[bytes]) -> float:
    """Milliseconds from just before a transaction is sent until it is a row, the 99th percentile."""
    before = await asyncio.to_thread(one, database_url, "SELECT count(*) FROM transactions")
    sent: dict[str, datetime] = {}

    def send() -> None:
        began = time.monotonic()
        for n, raw in enumerate(spends):
            # The rate is what is measured at; what is late already is sent at once.
            time.sleep(max(0.0, began + n / LIVE_RATE - time.monotonic()))
            sent[decode_raw(raw).txid] = datetime.now(UTC)
            rpc.call(str, "sendrawtransaction", raw.hex())

    await asyncio.to_thread(send)
    await until_stored(database_url, before + len(spends))
    with connect(database_url) as connection:
        rows = connection.execute("SELECT txid, landed_at FROM transactions WHERE txid = ANY(%s)", [list(sent)])
        waits = [(landed_at - sent[txid]).total_seconds() for txid, landed_at in rows]
    return 1_000 * float(np.quantile(waits, 0.99))
