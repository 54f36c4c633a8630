"""Blocks of a node whose answers are not what they should be: none is taken for whole, and none holds up another."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import httpx
import pytest

from tests.sources.test_bitcoin_rpc import URL
from txwatch.ingest.node_blocks import NodeBlocks, NodeElseRest
from txwatch.ingest.rest import BlockSource, RestError, rest_client
from txwatch.sources.bitcoin_node import BitcoinNode
from txwatch.sources.bitcoin_rpc import BitcoinRpc, NodeAwayError
from txwatch.sources.source import SourceAwayError
from txwatch.wire.messages import MalformedMessageError

HASH, PARENT = "a" * 64, "b" * 64


def raw(spends: int) -> str:
    """A transaction in hex, of one input and one output."""
    outpoint = spends.to_bytes(32, "little") + bytes(4)
    body = (
        b"\2\0\0\0" + b"\1" + outpoint + b"\0" + b"\xff" * 4 + b"\1" + (1_000).to_bytes(8, "little") + b"\0" + bytes(4)
    )
    return body.hex()


def transaction(spends: int, **changes: Any) -> dict[str, Any]:
    prevout = {"value": 0.5, "scriptPubKey": {"hex": "51"}, "height": 7, "generated": False}
    return {"hex": raw(spends), "vin": [{"txid": "c" * 64, "vout": 0, "prevout": prevout | changes}]}


def block(*transactions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    coinbase = {"hex": "00", "vin": [{}]}
    header = {"hash": HASH, "confirmations": 1, "height": 9, "time": 1_700_000_000, "nTx": len(transactions) + 1}
    return header | {"previousblockhash": PARENT, "tx": [coinbase, *transactions]} | changes


def node(answer: Callable[[str], Any]) -> BitcoinNode:
    def asked(request: httpx.Request) -> httpx.Response:
        method = json.loads(request.content)["method"]
        network = {"subversion": "/Satoshi:29.0.0/", "relayfee": 1e-5, "version": 290_000}
        described = {"getnetworkinfo": network, "getblockchaininfo": {"chain": "main"}, "getmempoolinfo": {}}
        told = described | {"getzmqnotifications": []}
        result = told[method] if method in told else answer(method)
        answered = result if "error" in result else {"result": result, "error": None, "id": 0}
        return httpx.Response(200, json=answered)

    return BitcoinNode(BitcoinRpc(URL, transport=httpx.MockTransport(asked)))


def read(answer: dict[str, Any]) -> Any:
    return NodeBlocks(node(lambda _method: answer)).block(HASH)


def test_a_block_is_read() -> None:
    whole = read(block(transaction(1), transaction(2)))
    assert (whole.n_tx, len(whole.transactions), whole.malformed) == (3, 2, [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (block(transaction(1), nTx=3_001), "nTx says 3001, transactions are 2"),
        (block(hash=PARENT), "asked for, and got block"),
        (block(transaction(1), transaction(1)), "in it twice"),
    ],
)
def test_a_block_that_is_not_whole_is_not_taken_for_it(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedMessageError, match=words):
        read(answer)


@pytest.mark.parametrize(
    "malformed",
    [
        transaction(1) | {"hex": "zz"},
        transaction(1) | {"hex": "00"},
        transaction(1) | {"vin": []},
        transaction(1, value=1e-8),
        transaction(1, scriptPubKey={"hex": "5"}),
    ],
)
def test_one_malformed_transaction_spoils_no_block(malformed: dict[str, Any]) -> None:
    whole = read(block(malformed, transaction(2)))
    assert (len(whole.transactions), len(whole.malformed)) == (1, 1)


@pytest.mark.parametrize(("code", "is_there"), [(-5, False), (-1, False), (-32601, True), (-7, True)])
def test_only_a_block_that_the_node_does_not_have_is_absent(code: int, is_there: bool) -> None:
    refusal = {"result": None, "error": {"code": code, "message": "no"}, "id": 0}
    if is_there:
        with pytest.raises(RestError, match="refuses getblock"):
            read(refusal)
    else:
        assert read(refusal) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"hash": "\0"},
        {"height": 2**31},
        {"height": -1},
        {"time": 2**40},
        {"nTx": 2**63},
        {"previousblockhash": "x"},
        {"tx": [{"hex": "00", "vin": [{"prevout": {"value": 1e308}}]}]},
    ],
)
def test_what_no_column_takes_is_no_answer_of_a_node(changes: dict[str, Any]) -> None:
    with pytest.raises(RestError, match="cannot be read"):
        read(block(**changes))
    with pytest.raises(SourceAwayError):
        node(lambda _method: block() | {"tx": [HASH], "height": 2**31}).block_txids(HASH)
    with pytest.raises(NodeAwayError):
        node(lambda _method: {"txids": ["\0"], "mempool_sequence": 2**70}).mempool()


@pytest.mark.parametrize(("has_it", "fails_as"), [(True, None), (False, (RestError, MalformedMessageError))])
@pytest.mark.parametrize("answer", [{"error": {"code": -28, "message": "Loading"}}, block(nTx=7)], ids=["away", "cut"])
def test_a_block_that_a_node_cannot_give_is_asked_of_the_service_and_never_taken_for_absent(
    answer: dict[str, Any], has_it: bool, fails_as: Any
) -> None:
    """One that both are without is given up: a node that is away may have it."""
    raw_block = {"hash": HASH, "prev_block": PARENT, "height": 9, "time": 1_700_000_000, "n_tx": 0, "tx": []}
    given = httpx.Response(200, json=raw_block) if has_it else httpx.Response(404, json={"error": "not-found"})
    service = BlockSource(rest_client("http://api", transport=httpx.MockTransport(lambda _: given)))
    blocks = NodeElseRest(NodeBlocks(node(lambda _method: answer)), service)
    if fails_as is None:
        found = blocks.block(HASH)
        assert found is not None
        assert found.hash == HASH
    else:
        with pytest.raises(fails_as):
            blocks.block(HASH)


def test_a_node_that_gives_the_same_block_for_every_height_is_asked_no_further() -> None:
    asked = 0
    header = {"hash": HASH, "confirmations": 1, "height": 800_000, "time": 1_700_000_000, "nTx": 1}

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < 20, "without an end"
        calls = json.loads(request.content)
        told = [
            {"result": header if call["method"] == "getblockheader" else HASH, "error": None, "id": call["id"]}
            for call in (calls if isinstance(calls, list) else [calls])
        ]
        return httpx.Response(200, json=told if isinstance(calls, list) else told[0])

    blocks = NodeBlocks(BitcoinNode(BitcoinRpc(URL, transport=httpx.MockTransport(answer))))
    with pytest.raises(RestError, match="height 800,000 for a lower one"):
        blocks.blocks_of(date(2023, 11, 1))
