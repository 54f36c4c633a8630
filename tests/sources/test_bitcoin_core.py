"""A real node on regtest: what its mempool takes is landed once, with its fee and size, its coins and their ages."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.following import Following, fast, query, until
from tests.sources.node import HAS_NODE, NO_NODE, Node, has_option
from tests.waiting import wait_until
from txwatch.clock import MonotoneClock
from txwatch.ingest.worker import IngestWorker
from txwatch.sources.bitcoin_core import BitcoinCore
from txwatch.sources.bitcoin_rpc import BitcoinRpc
from txwatch.wire.transaction import UNCONFIRMED

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not HAS_NODE, reason=NO_NODE)]

SAT = 100_000_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    # Bitcoin Knots takes packages of version 3 for ordinary ones unless it is told otherwise.
    truc = ("-mempooltruc=enforce",) if has_option("mempooltruc") else ()
    node = Node(tmp_path_factory.mktemp("node"), truc)
    node.start()
    node.make_rich()
    yield node
    node.stop()


@asynccontextmanager
async def watching(database_url: str, spool: Path, *nodes: Node) -> AsyncIterator[Following]:
    """A worker that follows these nodes, from when it hears all of them."""
    clock = MonotoneClock()
    names = ["bitcoin-core", *(f"bitcoin-core-{n}" for n in range(2, len(nodes) + 1))]
    sources = [
        BitcoinCore(name, clock, BitcoinRpc(one.rpc_url), one.zmq_url) for name, one in zip(names, nodes, strict=True)
    ]
    worker = IngestWorker(database_url, sources, "test", spool, clock, delays=fast)
    stop = asyncio.Event()
    running = Following(worker, stop, asyncio.create_task(worker.run(stop)))
    try:
        await until(lambda: len(query(database_url, "SELECT FROM feed_sources WHERE connected")) == len(nodes))
        yield running
    finally:
        await running.stop()


def stored(database_url: str) -> dict[str, tuple[Any, ...]]:
    """What is stored of each transaction: fee, weight, vsize."""
    return {row[0]: row[1:] for row in query(database_url, "SELECT txid, fee_sat, weight, vsize FROM transactions")}


async def landed(database_url: str, txids: set[str]) -> None:
    await until(lambda: txids <= stored(database_url).keys())


def assert_as_in_mempool(database_url: str, node: Node) -> None:
    """Fee, weight and size of all that the node's mempool holds are what the node says."""
    of_node = {
        txid: (round(entry["fees"]["base"] * SAT), entry["weight"], entry["vsize"])
        for txid, entry in node.mempool().items()
    }
    ours = stored(database_url)
    assert {txid: ours.get(txid) for txid in of_node} == of_node


async def test_payments_chains_and_large_ones_have_the_nodes_own_fees_and_sizes(
    fresh: str, tmp_path: Path, node: Node
) -> None:
    async with watching(fresh, tmp_path, node):
        kinds = ("legacy", "p2sh-segwit", "bech32", "bech32m")
        paid = {node.pay(0.5, address=node.wallet("getnewaddress", "", kind)) for kind in kinds}
        outputs = {node.wallet("getnewaddress"): 0.01 for _ in range(300)}
        paid.add(node.must("send", outputs, None, "unset", None, {"fee_rate": 10}, wallet="miner")["txid"])
        paid |= {node.pay(0.001, fee_rate=5) for _ in range(20)}
        await landed(fresh, paid)
        assert_as_in_mempool(fresh, node)
        node.mine()
        swept = node.must("sendall", [node.wallet("getnewaddress")], None, "unset", 12, wallet="miner")["txid"]
        await landed(fresh, {swept})
        assert_as_in_mempool(fresh, node)
    counts = query(fresh, "SELECT count(*), count(DISTINCT txid), max(input_count) FROM transactions")[0]
    assert counts[:2] == (len(paid) + 1,) * 2
    assert counts[2] > 300
    assert query(fresh, "SELECT count(*) FROM sightings") == [(len(paid) + 1,)]
    assert query(fresh, "SELECT count(*) FROM quarantined_messages") == [(0,)]
    node.mine()


async def test_coins_are_as_old_as_the_chain_says(fresh: str, tmp_path: Path, node: Node) -> None:
    async with watching(fresh, tmp_path, node):
        tip = node.must("getblockcount")
        unspent = node.wallet("listunspent")
        coin = max(unspent, key=lambda one: one["confirmations"])
        inputs = [{"txid": coin["txid"], "vout": coin["vout"]}]
        receiver = node.wallet("getnewaddress")
        parent = node.pay(coin["amount"] - 0.01, address=receiver, inputs=inputs, fee_rate=3)
        child = node.must(
            "sendall",
            [node.wallet("getnewaddress")],
            None,
            "unset",
            9,
            {"inputs": [{"txid": parent, "vout": _vout(node, parent, receiver)}]},
            wallet="miner",
        )["txid"]
        await landed(fresh, {parent, child})
    rows = dict(query(fresh, "SELECT txid, inputs -> 0 FROM transactions"))
    assert rows[parent]["txid"] == coin["txid"]
    assert rows[parent]["height"] == tip - coin["confirmations"] + 1
    assert rows[child]["txid"] == parent
    assert rows[child]["height"] == UNCONFIRMED
    assert query(fresh, "SELECT DISTINCT tip_height FROM transactions") == [(tip,)]
    node.mine()


def _vout(node: Node, txid: str, address: str) -> int:
    outputs = node.must("decoderawtransaction", node.must("getrawtransaction", txid))["vout"]
    return next(one["n"] for one in outputs if one["scriptPubKey"].get("address") == address)


async def test_a_replacement_is_linked_to_what_it_replaced(fresh: str, tmp_path: Path, node: Node) -> None:
    async with watching(fresh, tmp_path, node):
        first = node.pay(1.0, fee_rate=2)
        await landed(fresh, {first})
        bumped = node.wallet("bumpfee", first, {"fee_rate": 30})["txid"]
        await landed(fresh, {bumped})
        await until(lambda: bool(query(fresh, "SELECT FROM removals")))
    assert query(fresh, "SELECT txid, source, replaced_by FROM removals") == [(first, "bitcoin-core", bumped)]
    node.mine()


async def test_what_came_while_nobody_listened_is_landed_from_the_mempool(
    fresh: str, tmp_path: Path, node: Node
) -> None:
    before = node.pay(0.2)
    async with watching(fresh, tmp_path, node):
        heard = node.pay(0.3)
        await landed(fresh, {heard})
    assert before not in stored(fresh), "it was there before anybody listened"
    missed = {node.pay(0.01, fee_rate=7) for _ in range(30)}
    node.mine()
    missed |= {node.pay(0.02, fee_rate=7) for _ in range(5)}
    waiting = missed & node.mempool().keys()
    async with watching(fresh, tmp_path, node):
        await landed(fresh, waiting)
        await until(lambda: query(fresh, "SELECT count(*) FROM feed_gaps WHERE state = 'open'") == [(0,)])
        assert_as_in_mempool(fresh, node)
    gaps = query(fresh, "SELECT source, recovered, tip FROM feed_gaps WHERE cause = 'no worker was running'")
    assert gaps == [("bitcoin-core", len(waiting), node.must("getbestblockhash"))]
    tip = query(fresh, "SELECT height FROM blocks ORDER BY height DESC LIMIT 1")
    assert tip == [(node.must("getblockcount"),)]
    node.mine()


async def test_a_node_that_is_killed_and_started_again_costs_nothing(fresh: str, tmp_path: Path) -> None:
    own = Node(tmp_path / "own", ("-persistmempool=1",))
    own.start()
    try:
        own.make_rich(110)
        async with watching(fresh, tmp_path / "spool", own):
            first = own.pay(0.1)
            await landed(fresh, {first})
            own.kill()
            await until(lambda: bool(query(fresh, "SELECT FROM feed_sources WHERE NOT connected")))
            await asyncio.to_thread(own.start)
            own.call("loadwallet", "miner")
            await asyncio.to_thread(own.mine, 101)  # it had not written its newest blocks
            later = {own.pay(0.2) for _ in range(5)}
            await landed(fresh, later)
            await until(lambda: query(fresh, "SELECT count(*) FROM feed_gaps WHERE state = 'open'") == [(0,)])
            assert_as_in_mempool(fresh, own)
    finally:
        own.kill()


async def test_messages_that_the_node_dropped_are_seen_as_a_hole_and_landed(fresh: str, tmp_path: Path) -> None:
    own = Node(tmp_path / "own", ("-zmqpubsequencehwm=1", "-zmqpubrawtxhwm=1"))
    own.start()
    try:
        own.make_rich(130)
        async with watching(fresh, tmp_path / "spool", own):
            paid = set()
            for _ in range(3):
                # All at once: the node drops what does not fit into its queue of one.
                unspent = [one for one in own.wallet("listunspent") if one["amount"] > 1][:8]
                raw = [own.must("sendrawtransaction", _spend(own, one)) for one in unspent]
                paid |= set(raw)
                own.mine()
            more = {own.pay(0.1) for _ in range(3)}
            await landed(fresh, more | (paid & own.mempool().keys()))
            assert_as_in_mempool(fresh, own)
    finally:
        own.kill()


def _spend(node: Node, coin: dict[str, Any]) -> str:
    raw = node.must(
        "createrawtransaction",
        [{"txid": coin["txid"], "vout": coin["vout"]}],
        {node.wallet("getnewaddress"): round(float(coin["amount"]) - 0.0001, 8)},
    )
    return str(node.wallet("signrawtransactionwithwallet", raw)["hex"])


async def test_a_zero_fee_parent_comes_with_the_child_that_pays_for_it(fresh: str, tmp_path: Path, node: Node) -> None:
    async with watching(fresh, tmp_path, node):
        coin = max(node.wallet("listunspent"), key=lambda one: one["amount"])
        receiver = node.wallet("getnewaddress")
        parent = _signed(node, [(coin["txid"], coin["vout"])], receiver, float(coin["amount"]))
        spent = [{"txid": parent["txid"], "vout": 0, "scriptPubKey": parent["script"], "amount": coin["amount"]}]
        child = _signed(node, [(parent["txid"], 0)], node.wallet("getnewaddress"), float(coin["amount"]) - 0.001, spent)
        answer = node.must("submitpackage", [parent["hex"], child["hex"]])
        errors = [result.get("error") for result in answer["tx-results"].values()]
        assert answer["package_msg"] == "success", errors
        await landed(fresh, {parent["txid"], child["txid"]})
        assert_as_in_mempool(fresh, node)
    assert stored(fresh)[parent["txid"]][0] == 0
    node.mine()


def _signed(
    node: Node, coins: list[tuple[str, int]], address: str, amount: float, spent: list[dict[str, Any]] | None = None
) -> dict[str, str]:
    """A transaction of version 3 (TRUC), signed by the wallet."""
    inputs = [{"txid": txid, "vout": vout} for txid, vout in coins]
    raw = node.must("createrawtransaction", inputs, {address: round(amount, 8)})
    raw = "03000000" + raw[8:]
    signed = node.wallet("signrawtransactionwithwallet", raw, *([spent] if spent else []))
    decoded = node.must("decoderawtransaction", signed["hex"])
    return {"hex": signed["hex"], "txid": decoded["txid"], "script": decoded["vout"][0]["scriptPubKey"]["hex"]}


async def test_a_reorganisation_removes_blocks_and_brings_transactions_back(fresh: str, tmp_path: Path) -> None:
    own = Node(tmp_path / "own")
    own.start()
    try:
        own.make_rich(110)
        async with watching(fresh, tmp_path / "spool", own):
            paid = own.pay(0.1)
            blocks = own.mine(2)
            await until(lambda: len(query(fresh, "SELECT FROM blocks")) == 2)
            own.call("invalidateblock", blocks[0])
            await until(lambda: len(query(fresh, "SELECT FROM blocks WHERE removed_at IS NOT NULL AND stale")) == 2)
            assert paid in own.mempool()
            other = own.mine(3)
            await until(lambda: len(query(fresh, "SELECT FROM blocks WHERE removed_at IS NULL")) == 3)
        assert {row[0] for row in query(fresh, "SELECT hash FROM blocks WHERE NOT stale")} == set(other)
        assert query(fresh, "SELECT count(*) FROM transactions WHERE txid = %s", [paid]) == [(1,)]
    finally:
        own.kill()


async def test_two_nodes_that_hold_different_spends_of_a_coin_are_each_heard(fresh: str, tmp_path: Path) -> None:
    a, b = Node(tmp_path / "a"), Node(tmp_path / "b")
    try:
        for one in (a, b):
            one.start()
        a.make_rich(110)
        a.call("addnode", f"127.0.0.1:{b.p2p_port}", "onetry")
        wait_until(lambda: b.must("getblockcount") == 110, "the second node has the chain")
        async with watching(fresh, tmp_path / "spool", a, b):
            coin = max(a.wallet("listunspent"), key=lambda one: one["amount"])
            first = _spend(a, coin)
            second = _spend(a, coin)
            for peer in a.must("getpeerinfo"):
                a.call("disconnectnode", "", peer["id"])
            wait_until(lambda: not b.must("getpeerinfo"), "the nodes are apart")
            txids = {a.must("sendrawtransaction", first), b.must("sendrawtransaction", second)}
            assert len(txids) == 2
            await landed(fresh, txids)
        told = query(fresh, "SELECT source, count(*) FROM sightings GROUP BY 1 ORDER BY 1")
        assert told == [("bitcoin-core", 1), ("bitcoin-core-2", 1)]
        assert query(fresh, "SELECT count(*), count(DISTINCT txid) FROM spends") == [(2, 2)]
        assert query(fresh, "SELECT count(*) FROM contested_outpoints") == [(1,)]
    finally:
        for one in (a, b):
            one.kill()
