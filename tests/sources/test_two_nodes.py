"""Two real nodes that are taken apart and joined again, and workers that are killed beside a node that goes on."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tests.ingest.following import query, until
from tests.sources.node import Node, needs_node, running_node
from tests.sources.watching import assert_as_told, entries, landed, removals, stored, watching
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.clock import utc_now
from txwatch.ingest.node_blocks import node_blocks
from txwatch.ingest.recovery import read_chain
from txwatch.store.database import connect

pytestmark = [pytest.mark.anyio, needs_node]


@contextmanager
def joined(folder: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes of one chain; the first has the coins."""
    with running_node(folder / "first") as first:
        second = Node(folder / "second")
        try:
            second.start()
            join(first, second)
            yield first, second
        finally:
            second.stop()


def join(first: Node, second: Node) -> None:
    first.join(second)
    wait_until(lambda: second.tip() == first.tip(), "they have one chain")


def part(first: Node, second: Node) -> None:
    first.part()
    wait_until(lambda: not second.call("getpeerinfo"), "they are apart")


async def test_double_spends_on_two_nodes_that_are_joined_again(fresh: str, tmp_path: Path) -> None:
    with joined(tmp_path) as (first, second):
        coins = first.split(3, "1")
        first.mine()
        join(first, second)
        async with watching(fresh, tmp_path / "spool", first, second):
            part(first, second)
            lost, won = [], []
            for coin in coins:
                lost.append(first.broadcast(first.spend([coin], [{first.address(): "0.99"}])))
                won.append(second.broadcast(first.spend([coin], [{first.address(): "0.98"}])))
            await landed(fresh, [*lost, *won])
            told = "SELECT source, count(*) FROM sightings GROUP BY 1 ORDER BY 1"
            assert query(fresh, told) == [("bitcoin-core", 3), ("bitcoin-core-2", 3)]
            assert query(fresh, "SELECT count(*) FROM contested_outpoints") == [(3,)]
            # The second node's block takes its own; the first gives its own up for them.
            second.mine()
            join(first, second)
            expected = dict(zip(lost, won, strict=True))
            await until(lambda: removals(fresh) == expected)
            assert query(fresh, "SELECT DISTINCT source FROM removals") == [("bitcoin-core",)]
            assert stored(fresh).keys() == {*lost, *won}


async def test_of_two_branches_the_longer_one_confirms(fresh: str, tmp_path: Path) -> None:
    with joined(tmp_path) as (first, second):
        coins = first.split(2, "1")
        first.mine()
        join(first, second)
        async with watching(fresh, tmp_path / "spool", first, second):
            part(first, second)
            sent = [first.broadcast(first.spend([coin], [{first.address(): "0.99"}])) for coin in coins]
            await landed(fresh, sent)
            short, long = first.mine(), second.mine(2)
            join(first, second)
            await until(lambda: {h for (h,) in query(fresh, "SELECT hash FROM blocks")} == {*short, *long})
            await until(lambda: {h for (h,) in query(fresh, "SELECT hash FROM blocks WHERE NOT stale")} == set(long))
            read_blocks(fresh, first)
            confirmed = "SELECT count(*) FROM confirmations JOIN blocks ON hash = block_hash WHERE NOT stale"
            assert query(fresh, confirmed) == [(0,)], "no block of the longer branch has them"
            wait_until(lambda: set(sent) <= entries(first).keys(), "they are in the mempool again")
            last = first.mine()
            await until(lambda: (last[0],) in query(fresh, "SELECT hash FROM blocks"))
            read_blocks(fresh, first)
            assert query(fresh, confirmed) == [(2,)]


def read_blocks(database_url: str, node: Node) -> None:
    """Read the blocks that were announced, and those of gaps, from a node."""
    with connect(database_url) as connection, node_blocks(node.rpc_url) as source:
        recovery = read_chain(connection, source, utc_now)
    assert not recovery.failures


async def test_blocks_of_an_outage_are_read_from_the_node_and_close_its_gap(fresh: str, tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        async with watching(fresh, tmp_path / "spool", node):
            early = [node.send() for _ in range(3)]
            await landed(fresh, early)
            before = node.mine()
            await until(lambda: len(query(fresh, "SELECT hash FROM blocks")) == 1)
        # Seen by nobody: mined before the worker is back.
        parent = node.send()
        mined = [parent, *(node.send() for _ in range(4))]
        blocks = node.mine()
        mined += [node.send() for _ in range(2)]
        blocks += node.mine(3)
        waiting = [node.send()]
        async with watching(fresh, tmp_path / "spool", node):
            await landed(fresh, [*early, *waiting])
            await until(lambda: query(fresh, "SELECT state FROM feed_gaps") == [("ended",)])
            read_blocks(fresh, node)
            assert query(fresh, "SELECT state, recovered FROM feed_gaps") == [("recovered", 1 + len(mined))]
            found = await landed(fresh, [*early, *mined, *waiting])
            assert {txid for txid, tx in found.items() if tx.source == "block"} == set(mined)
            assert all(tx.fee_sat is not None for tx in found.values())
            confirmed = dict(query(fresh, "SELECT txid, block_hash FROM confirmations"))
            assert confirmed == {
                txid: block for block in [*before, *blocks] for txid in node.call("getblock", block)["tx"][1:]
            }
            assert query(fresh, "SELECT count(*) FROM blocks WHERE stale") == [(0,)]


async def test_what_the_node_says_of_a_blocks_coins_is_kept(tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        node.send([{node.address(kind): "0.1"} for kind in ("legacy", "p2sh-segwit", "bech32", "bech32m")])
        node.send()
        told = entries(node)
        tip = node.call("getblockcount")
        (block_hash,) = node.mine()
        with node_blocks(node.rpc_url) as source:
            block = source.block(block_hash)
            assert block is not None
            assert (block.hash, block.height, block.n_tx) == (block_hash, tip + 1, 3)
            assert {tx.txid for tx in block.transactions} == told.keys()
            for tx in block.transactions:
                assert_as_told(tx, told[tx.txid])
                assert (tx.tip_height, tx.source) == (tip, "block")
            assert source.block("0" * 63 + "1") is None
            listed = source.blocks_of(utc_now().date())
            assert (listed[0].hash, listed[0].height) == (block_hash, tip + 1)
            assert [block.height for block in listed] == sorted((b.height for b in listed), reverse=True)
            assert source.blocks_of(utc_now().date().replace(year=2020)) == []


async def test_a_killed_worker_costs_nothing(fresh: str, tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        environment = os.environ | {
            "DATABASE_URL": fresh,
            "TXWATCH_HOME": str(tmp_path / "home"),
            "TXWATCH_SOURCES": "bitcoin-core",
            "BITCOIN_RPC_URL": node.rpc_url,
            "BITCOIN_ZMQ_URL": node.zmq_url,
        }

        async def worker() -> asyncio.subprocess.Process:
            with (tmp_path / "worker.log").open("ab") as log:
                return await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "txwatch", "ingest", env=environment, stdout=log, stderr=log
                )

        sent: list[str] = []
        held = [node.coin() for _ in range(4)]

        def spend(fee: str) -> str:
            (coin, amount) = held[-1]
            return node.broadcast(node.spend([coin], [{node.address(): str(amount - Decimal(fee))}]))

        process = await worker()
        try:
            await until(lambda: bool(query(fresh, "SELECT 1 FROM feed_sources WHERE connected")))
            for heard_by_the_first in (True, False):
                if heard_by_the_first:
                    sent.append(spend("0.01"))
                sent += [node.send() for _ in range(3)]
                await landed(fresh, sent)
                process.kill()
                await process.wait()
                sent += [node.send() for _ in range(3)]
                if not heard_by_the_first:
                    sent.append(spend("0.01"))
                process = await worker()
                await landed(fresh, sent)
                await until(lambda: query(fresh, "SELECT count(*) FROM feed_gaps WHERE state = 'open'") == [(0,)])
                # Its replacement is linked, though this worker has never heard of it by a message.
                first = sent[0] if heard_by_the_first else sent[-1]
                sent.append(spend("0.02"))
                await landed(fresh, sent)
                await until(lambda pair=(first, sent[-1]): pair in removals(fresh).items())
                held.pop()
            for txid, entry in entries(node).items():
                assert_as_told(stored(fresh)[txid], entry)
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        assert "pass%20word" not in (tmp_path / "worker.log").read_text()
