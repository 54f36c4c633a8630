"""The local feed as mempool.space: the same traffic as blockchain.info's, with the coins' outpoints."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.builders import T0, numbered_utx, pay, spend
from tests.feeds import RATE, CapturedFeed, SetClock
from tests.waiting import PATIENCE_SECONDS
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import LocalFeed, Playlist
from txwatch.lab.simulator.mempool_space import Polls, rest_answer, transaction_answer
from txwatch.lab.simulator.subscribers import MEMPOOL_SPACE_PATH, Protocol
from txwatch.lab.simulator.traffic import Simulator
from txwatch.sources.mempool_space import MempoolSpace
from txwatch.wire.mempool_space import decode_block, decode_hash, decode_transaction, decode_txids

pytestmark = pytest.mark.anyio


def a_chain(**options: Any) -> Chain:
    return Chain(**({"seed": 1, "start": T0} | options))


def paying(n: int, fee_sat: int) -> bytes:
    return numbered_utx(n, out=[pay(10_740 - fee_sat)])


def told(change: Any) -> dict[str, Any]:
    """A change as it is sent, each transaction as its number."""
    message = json.loads(change.message())
    message["added"] = [int(tx["txid"], 16) for tx in message["added"]]
    message["replaced"] = [(int(r["replaced"], 16), int(r["by"]["txid"], 16)) for r in message["replaced"]]
    return message | {name: [int(txid, 16) for txid in message[name]] for name in ("removed", "mined")}


def test_simulated_transactions_spend_the_coins_of_earlier_ones_each_once() -> None:
    sent = list(Simulator(seed=1, start=T0, rate=50, replaced_share=0.0).until(T0 + timedelta(minutes=5)))
    outputs: dict[tuple[str, int], tuple[str | None, int]] = {}
    spent: Counter[tuple[str, int]] = Counter()
    chained = 0
    for tx in sent:
        for maker, coin in zip(tx.makers, tx.draft.coins, strict=True):
            spent[maker, coin.n] += 1
            if (made := outputs.get((maker, coin.n))) is not None:
                chained += 1
                assert made == (coin.owner.text, coin.value)
        outputs |= {(tx.txid, coin.n): (coin.owner.text, coin.value) for coin in tx.draft.outputs}
    assert max(spent.values()) == 1
    assert chained > 0.1 * spent.total()
    assert len({tx.txid for tx in sent} & {maker for maker, _ in spent}) > 100


def test_a_replacement_spends_the_same_outpoints() -> None:
    rates = {"whale": 100.0}
    simulator = Simulator(seed=1, start=T0, rate=0.05, plants_per_hour=rates, replaced_share=0.5)
    makers = {}
    replaced = 0
    for tx in simulator.until(T0 + timedelta(hours=1)):
        makers[tx.txid] = tx.makers
        if tx.replaces is not None:
            replaced += 1
            assert makers[tx.replaces] == tx.makers
    assert replaced > 20


def test_a_transaction_is_told_as_both_protocols_have_it() -> None:
    chain = a_chain()
    for tx in Simulator(seed=3, start=T0, rate=50).until(T0 + timedelta(minutes=1)):
        read = chain.served(tx.message, tx.at, tx.replaces, tx.makers)
        served = chain.transaction(tx.txid)
        assert read is not None
        if served is None:
            continue  # the miners kept the one that it would replace
        other = decode_transaction(transaction_answer(served), tx.at)
        assert [(coin.txid, coin.n) for coin in other.inputs] == list(
            zip(tx.makers, [c.n for c in tx.draft.coins], strict=True)
        )
        assert (other.fee_sat, other.weight, other.rbf, other.outputs) == (
            read.fee_sat,
            read.weight,
            read.rbf,
            read.outputs,
        )


def test_coins_of_a_capture_have_outpoints_of_their_own_that_stay() -> None:
    def outpoints() -> list[tuple[str | None, int]]:
        chain = a_chain()
        for n in (1, 2):
            body = numbered_utx(n, inputs=[spend(), spend(), spend(None)], vin_sz=3, size=400)
            chain.served(body, T0)
        answers = [transaction_answer(one) for one in chain.mempool.values()]
        return [(c.txid, c.n) for answer in answers for c in decode_transaction(answer, T0).inputs]

    assert len(set(outpoints())) == 6
    assert outpoints() == outpoints()


def test_changes_are_numbered_and_say_what_was_replaced_mined_or_dropped() -> None:
    chain = a_chain(kept_waiting=3)
    polls = Polls(chain, T0)
    assert polls.next_at == T0 + timedelta(seconds=2)
    chain.served(paying(1, 100), T0)
    chain.served(paying(0xFF, 200), T0)
    assert told(polls.poll()) == {"sequence": 1, "added": [1, 0xFF], "removed": [], "mined": [], "replaced": []}
    chain.served(paying(0x1FF, 300), T0, f"{1:064x}")
    chain.served(paying(5, 400), T0)
    chain.served(paying(6, 500), T0)
    change = told(polls.poll())
    assert change == {
        "sequence": 2,
        "added": [0x1FF, 5, 6],
        "removed": [1, 0xFF],
        "mined": [],
        "replaced": [(1, 0x1FF)],
    }
    chain.served(paying(0x2FF, 600), T0, f"{6:064x}")
    block = chain.mine(T0)
    change = told(polls.mined(block))
    assert (change["sequence"], sorted(change["mined"]), change["added"]) == (3, [5, 0x1FF, 0x2FF], [])
    assert told(polls.poll()) == {"sequence": 4, "added": [], "removed": [6], "mined": [], "replaced": []}


def test_its_rest_api_answers_from_the_same_chain() -> None:
    chain = a_chain()
    chain.served(paying(1, 100), T0)
    chain.served(paying(2, 300), T0)

    def get(path: str) -> bytes:
        answer = rest_answer(chain, path.split("/"), T0)
        assert answer is not None
        return answer

    assert decode_txids(get("mempool/txids")) == [f"{1:064x}", f"{2:064x}"]
    assert json.loads(get("mempool"))["count"] == 2
    assert decode_transaction(get(f"tx/{1:064x}"), T0).fee_sat == 100
    block = chain.mine(T0)
    assert json.loads(get(f"tx/{1:064x}"))["status"] == {"confirmed": True}
    assert decode_hash(get("blocks/tip/hash")) == decode_hash(get("v1/blocks/tip/hash")) == block.hash
    assert decode_block(get(f"block/{block.hash}")).tx_count == 2
    assert json.loads(get("v1/prices"))["USD"] > 0
    assert json.loads(get("v1/fees/recommended"))["minimumFee"] == 1
    for nothing in ("tx/ff", "block/ff", "v2"):
        assert rest_answer(chain, nothing.split("/"), T0) is None


async def receive(client: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return json.loads(await client.recv())


async def test_both_protocols_are_served_from_one_port(tmp_path: Path) -> None:
    captured = CapturedFeed(tmp_path, [numbered_utx(n) for n in range(1, 4)])
    async with captured.serve() as feed, connect(f"ws{feed.rest_url[4:]}{MEMPOOL_SPACE_PATH}") as client:
        await client.send('{"action":"want","data":["blocks"]}')
        await client.send("{nonsense")
        await client.send('{"track-mempool":true}')
        await client.send('{"action":"ping"}')
        assert await receive(client) == {"pong": True}
        async with connect(feed.stream_url) as other:
            await other.send('{"op":"unconfirmed_sub"}')
            await asyncio.sleep(0.1)
            captured.play(3)
            assert [(await receive(other))["x"]["hash"] for _ in range(3)] == [f"{n:064x}" for n in range(1, 4)]
            captured.clock.forward(2)
            changes = (await receive(client))["mempool-transactions"]
            assert [int(tx["txid"], 16) for tx in changes["added"]][:3] == [1, 2, 3]
            captured.clock.now = captured.chain.next_block_at
            while "block" not in (message := await receive(client)):
                sequence = message["mempool-transactions"]["sequence"]
            assert message["mempool-transactions"]["sequence"] == sequence + 1
            assert message["block"]["tx_count"] == len(message["mempool-transactions"]["mined"]) >= 3
        async with httpx.AsyncClient(base_url=feed.rest_url, timeout=PATIENCE_SECONDS) as rest:
            assert (await rest.get("/api/blocks/tip/hash")).text == message["block"]["id"]
        health = await MempoolSpace(feed.rest_url, captured.clock).health()
        assert health.text == "version local feed"


async def test_requests_too_close_together_are_told_when_to_ask_again() -> None:
    clock = SetClock()
    playlist = Playlist(capture=None, rate=None, regime="2024-03", seed=1)
    feed = LocalFeed(playlist=playlist, chain=a_chain(), clock=clock, rest_interval_seconds=10.0)
    async with feed, httpx.AsyncClient(base_url=feed.rest_url, timeout=PATIENCE_SECONDS) as rest:
        assert (await rest.get("/api/mempool")).status_code == 200
        clock.forward(3)
        refused = await rest.get("/api/mempool")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")


async def test_the_share_of_a_protocol_that_is_lost_is_the_same_for_a_seed(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_bytes(b"\n".join(numbered_utx(n) for n in range(1, 401)))

    async def hashes(share: float, seed: int) -> list[int]:
        clock = SetClock()
        feed = LocalFeed(
            playlist=Playlist(capture=path, rate=RATE, regime="2024-03", seed=1),
            chain=a_chain(mean_seconds=1e9),
            clock=clock,
            lost={Protocol.BLOCKCHAIN_INFO: share},
            seed=seed,
        )
        async with feed, connect(feed.stream_url) as client:
            await client.send('{"op":"unconfirmed_sub"}')
            await asyncio.sleep(0.1)
            clock.forward(400 / RATE)
            heard = []
            while not heard or heard[-1] < 390:
                heard.append(int((await receive(client))["x"]["hash"], 16))
            return [n for n in heard if n < 390]

    some = await hashes(0.2, 1)
    assert 270 <= len(some) <= 350
    assert await hashes(0.2, 1) == some
    assert await hashes(0.2, 2) != some
