"""A real node on regtest: what enters its mempool is landed once, with fee, sizes and coins as the node has them."""

import asyncio
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.ingest.following import query, until
from tests.sources.node import Node, needs_node, running_node
from tests.sources.watching import (
    assert_ages,
    assert_as_told,
    entries,
    landed,
    removals,
    stored,
    watching,
)
from txwatch.lab.regtest.node import RefusedError
from txwatch.wire.transaction import UNCONFIRMED

pytestmark = [pytest.mark.anyio, needs_node]

OP_RETURN_BYTES = 100_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for the tests that leave its chain and its mempool as any other may find them."""
    with running_node(tmp_path_factory.mktemp("node")) as it:
        yield it


@pytest.fixture
def empty(node: Node) -> Node:
    """The same, with nothing in its mempool."""
    if entries(node):
        node.mine()
    return node


async def as_told(database_url: str, node: Node, *, replaced: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Everything in the mempool, and what was replaced there, was landed once and as the node says; then mine it."""
    told = entries(node)
    found = await landed(database_url, told.keys() | replaced)
    for txid, entry in told.items():
        assert_as_told(found[txid], entry)
    assert assert_ages(database_url, node, node.mine()) >= len(told)


async def test_300_coins_of_every_age_are_spent_by_one_transaction(empty: Node, fresh: str, tmp_path: Path) -> None:
    node = empty
    coins = []
    for _ in range(3):
        coins += node.split(100, "0.001")
        node.mine()
    async with watching(fresh, tmp_path, node):
        txid = node.broadcast(node.spend(coins, [{node.address(): "0.29"}]))
        found = (await landed(fresh, [txid]))[txid]
        assert found.input_count == 300
        assert len({coin.height for coin in found.inputs}) == 3
        await as_told(fresh, node)


async def test_every_kind_of_address_is_spent_and_paid(empty: Node, fresh: str, tmp_path: Path) -> None:
    node = empty
    kinds = ("legacy", "p2sh-segwit", "bech32", "bech32m")
    made = node.send([{node.address(kind): "0.5"} for kind in kinds])
    node.mine()
    outputs = node.call("getrawtransaction", made, 1, node.call("getbestblockhash"))["vout"]
    async with watching(fresh, tmp_path, node):
        for output in outputs:
            if output["value"] == Decimal("0.5"):
                pays = [{node.address(kind): "0.1"} for kind in kinds]
                node.broadcast(node.spend([(made, output["n"])], pays))
        found = await landed(fresh, entries(node))
        assert {tx.inputs[0].type for tx in found.values()} == {"p2pkh", "p2sh", "p2wpkh", "p2tr"}
        assert all(
            [output.type for output in tx.outputs] == ["p2pkh", "p2sh", "p2wpkh", "p2tr"] for tx in found.values()
        )
        await as_told(fresh, node)


@pytest.mark.parametrize("size", [80, OP_RETURN_BYTES - 5])
async def test_data_of_100_kb(empty: Node, fresh: str, tmp_path: Path, size: int) -> None:
    coin, amount = empty.coin()
    pays = [{"data": os.urandom(size).hex()}, {empty.address(): str(amount - Decimal("0.01"))}]
    async with watching(fresh, tmp_path, empty):
        try:
            txid = empty.broadcast(empty.spend([coin], pays))
        except RefusedError as error:
            pytest.skip(f"this node takes no {size} bytes of data: {error}")
        found = (await landed(fresh, [txid]))[txid]
        assert found.size > size
        assert found.outputs[0].type == "op_return"
        await as_told(fresh, empty)


async def test_chains_of_unconfirmed_transactions(empty: Node, fresh: str, tmp_path: Path) -> None:
    async with watching(fresh, tmp_path, empty):
        for _ in range(3):
            coin, amount = empty.coin()
            for _ in range(20):
                amount -= Decimal("0.0001")
                txid = empty.broadcast(empty.spend([coin], [{empty.address(): str(amount)}]))
                coin = txid, 0
        found = await landed(fresh, entries(empty))
        assert sum(tx.inputs[0].height == UNCONFIRMED for tx in found.values()) == 57
        await as_told(fresh, empty)


async def test_what_is_mined_at_once_has_its_coins_all_the_same(empty: Node, fresh: str, tmp_path: Path) -> None:
    async with watching(fresh, tmp_path, empty):
        sent, blocks = [], []
        for _ in range(5):
            sent += [empty.send() for _ in range(4)]
            blocks += empty.mine()
        found = await landed(fresh, sent)
        assert all(tx.fee_sat is not None for tx in found.values())
        assert assert_ages(fresh, empty, blocks) >= 20
        await until(lambda: query(fresh, "SELECT count(*) FROM blocks")[0][0] == 5)


async def test_a_parent_without_a_fee_comes_with_its_child(empty: Node, fresh: str, tmp_path: Path) -> None:
    coin, amount = empty.coin()
    parent = empty.spend([coin], [{empty.address(): str(amount)}], version=3)
    parent_id, output = empty.call("decoderawtransaction", parent)["txid"], None
    output = empty.call("decoderawtransaction", parent)["vout"][0]
    spent = {"txid": parent_id, "vout": 0, "scriptPubKey": output["scriptPubKey"]["hex"], "amount": str(amount)}
    pays = [{empty.address(): str(amount - Decimal("0.001"))}]
    raw = empty.call("createrawtransaction", [{"txid": parent_id, "vout": 0}], pays)
    child = empty.wallet("signrawtransactionwithwallet", "03000000" + raw[8:], [spent])["hex"]
    async with watching(fresh, tmp_path, empty):
        answer = empty.call("submitpackage", [parent, child])
        assert answer["package_msg"] == "success", answer
        found = await landed(fresh, entries(empty))
        assert found[parent_id].fee_sat == 0
        assert {tx.version for tx in found.values()} == {3}
        await as_told(fresh, empty)


async def test_replacements_are_linked_to_what_replaced_them(empty: Node, fresh: str, tmp_path: Path) -> None:
    node = empty
    async with watching(fresh, tmp_path, node):
        expected: dict[str, str | None] = {}
        for other_receiver in (False, True, False, True):
            coin, amount = node.coin()
            receiver, before = node.address(), ""
            for step in range(1, 4):
                pays = [{node.address() if other_receiver else receiver: str(amount - step * Decimal("0.001"))}]
                txid = node.broadcast(node.spend([coin], pays))
                if before:
                    expected[before] = txid
                before = txid
        await until(lambda: removals(fresh) == expected)
        # Its unconfirmed child goes with it, and nothing takes the child's place.
        coin, amount = node.coin()
        parent = node.broadcast(node.spend([coin], [{node.address(): str(amount - 1)}], sequence=1))
        child_pays = [{node.address(): str(amount - 2)}]
        child = node.broadcast(node.spend([(parent, 0)], child_pays))
        pays = [{node.address(): str(amount - 4)}]
        winner = node.broadcast(node.spend([coin], pays, sequence=1))
        expected |= {parent: winner, child: None}
        await until(lambda: removals(fresh) == expected)
        await as_told(fresh, node, replaced=set(expected))


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_reorganisation_returns_what_it_unconfirms(empty: Node, fresh: str, tmp_path: Path, depth: int) -> None:
    node = empty
    # Coins that stay mature when the chain is shorter.
    coins = node.split(depth, "0.1")
    node.mine()
    async with watching(fresh, tmp_path, node):
        sent, first = [], []
        for coin in coins:
            sent.append(node.broadcast(node.spend([coin], [{node.address(): "0.09"}])))
            first += node.mine()
        await landed(fresh, sent)
        blocks = "SELECT hash FROM blocks WHERE NOT stale"
        await until(lambda: {h for (h,) in query(fresh, blocks)} == set(first))
        node.call("invalidateblock", first[0])
        assert set(entries(node)) == set(sent)
        await until(lambda: query(fresh, blocks) == [])
        second = node.mine(depth + 1)
        await until(lambda: {h for (h,) in query(fresh, blocks)} == set(second))
        told = query(fresh, "SELECT hash FROM blocks WHERE removed_at IS NOT NULL")
        assert {h for (h,) in told} == set(first)
        assert set(await landed(fresh, sent)) == set(sent)
        assert removals(fresh) == {}
        assert_ages(fresh, node, second)
        # Coins that the chain has again are as old as the branch that won.
        later = node.send()
        await landed(fresh, [*sent, later])
        assert assert_ages(fresh, node, node.mine()) >= 1


async def test_a_silent_hole_is_noticed_and_what_it_hid_comes_back(fresh: str, tmp_path: Path) -> None:
    with running_node(tmp_path / "node", "-zmqpubsequencehwm=1", "-zmqpubrawtxhwm=1") as node:
        coins = node.split(200, "0.1") + node.split(100, "0.1")
        node.mine()
        raws = [node.spend([coin], [{node.address(): "0.0999"}]) for coin in coins]
        async with watching(fresh, tmp_path / "spool", node):
            # All at once: the node's queue of one message overflows.
            sent = await asyncio.to_thread(lambda: [node.broadcast(raw) for raw in raws])
            found = await landed(fresh, sent)
            assert query(fresh, "SELECT count(*) FROM feed_gaps WHERE ended_at IS NOT NULL")[0][0] > 0
            for txid, entry in entries(node).items():
                assert_as_told(found[txid], entry)
            # A block that is not told is noticed too.
            blocks = node.mine()
            await until(lambda: query(fresh, "SELECT hash FROM blocks") == [(blocks[0],)])
            assert assert_ages(fresh, node, blocks) == 300
            assert stored(fresh).keys() == set(sent)


async def test_a_killed_node_is_noticed_and_its_mempool_read_when_it_is_back(fresh: str, tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        async with watching(fresh, tmp_path / "spool", node):
            sent = [node.send() for _ in range(5)]
            await landed(fresh, sent)
            node.kill()
            await until(lambda: query(fresh, "SELECT count(*) FROM feed_gaps WHERE state = 'open'")[0][0] == 1)
            node.start()
            # Sent before the worker is back: nothing tells of them any more.
            sent += [node.send() for _ in range(5)]
            ended = "SELECT recovered, tip FROM feed_gaps WHERE ended_at IS NOT NULL"
            await until(lambda: len(query(fresh, ended)) == 1)
            sent += [node.send() for _ in range(5)]
            wanted = set(sent)
            await until(lambda: wanted <= stored(fresh).keys())
            assert stored(fresh).keys() == wanted
            assert query(fresh, ended)[0][1] == node.call("getbestblockhash")
            for txid, entry in entries(node).items():
                assert_as_told(stored(fresh)[txid], entry)


async def test_nothing_is_lost_while_no_worker_runs(empty: Node, fresh: str, tmp_path: Path) -> None:
    node = empty
    async with watching(fresh, tmp_path, node):
        early = [node.send() for _ in range(3)]
        await landed(fresh, early)
    blocks = node.mine()
    missed = [node.send() for _ in range(5)]
    async with watching(fresh, tmp_path, node):
        found = await landed(fresh, [*early, *missed])
        for txid, entry in entries(node).items():
            assert_as_told(found[txid], entry)
        await until(lambda: (blocks[0],) in query(fresh, "SELECT hash FROM blocks"))
        gaps = "SELECT source, recovered, ended_at IS NOT NULL FROM feed_gaps"
        await until(lambda: query(fresh, gaps) == [("bitcoin-core", 5, True)])
