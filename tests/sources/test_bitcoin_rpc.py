"""A node's RPC: what it answers, and in which words it is said that it does not."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.wire.test_raw import serialized
from txwatch.sources.bitcoin_node import BitcoinNode, program
from txwatch.sources.bitcoin_rpc import BATCH, BitcoinRpc, NodeAwayError, RpcError, RpcUrlError
from txwatch.sources.source import SourceAwayError
from txwatch.wire.raw import decode_raw

SECRET = "p@ss"
URL = "http://user:p%40ss@node:8332"


def rpc(answer: Callable[[httpx.Request], httpx.Response]) -> BitcoinRpc:
    return BitcoinRpc(URL, transport=httpx.MockTransport(answer))


def says(body: Any, status: int = 200) -> BitcoinRpc:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rpc(lambda _: httpx.Response(status, content=content))


def test_calls_are_put_with_the_user_and_password_of_the_address() -> None:
    heard: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return httpx.Response(200, json={"result": 7, "error": None, "id": 0})

    assert rpc(answer).call(int, "getblockcount") == 7
    assert heard[0].headers["Authorization"] == httpx.BasicAuth("user", SECRET)._auth_header
    assert json.loads(heard[0].content)["method"] == "getblockcount"


def test_a_batch_is_put_in_parts_and_its_answers_come_in_order() -> None:
    sizes = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls = json.loads(request.content)
        sizes.append(len(calls))
        told = [{"result": call["params"][0] * 2, "error": None, "id": call["id"]} for call in reversed(calls)]
        return httpx.Response(200, json=told)

    assert rpc(answer).batch(int, "double", [(n,) for n in range(BATCH + 3)]) == [2 * n for n in range(BATCH + 3)]
    assert sizes == [BATCH, 3]


def test_one_call_that_is_refused_spoils_no_batch() -> None:
    refused = {"result": None, "error": {"code": -5, "message": "no such"}, "id": 1}
    assert says([{"result": 1, "error": None, "id": 0}, refused]).batch(int, "x", [(), ()]) == [1, None]


def test_a_transaction_that_cannot_be_read_or_is_another_one_holds_up_no_other() -> None:
    bodies = [serialized([(b"\1" * 32, n, b"", 0)], [(n, b"")])[0] for n in range(5)]
    txids = [decode_raw(body).txid for body in bodies]
    told = [bodies[0].hex(), "no hex", bodies[2][:-1].hex(), None, bodies[0].hex()]
    node = BitcoinNode(says([{"result": body, "error": None, "id": n} for n, body in enumerate(told)]))
    assert {txid: raw.body for txid, raw in node.raw(txids).items()} == {txids[0]: bodies[0]}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (says({}, 401), "refuses the user and password"),
        (says({}, 403), "rpcallowip"),
        (says(b"Work queue depth exceeded", 503), "rpcworkqueue"),
        (says(b"<html>", 404), "no Bitcoin node: status 404"),
        (says(b"nonsense"), "cannot be read"),
        (says({"result": None, "error": {"code": -28, "message": "Loading block index"}}, 500), "is starting: Loading"),
        (says({"result": None, "error": None}), "answers nothing"),
    ],
)
def test_a_node_that_cannot_answer_is_away(node: BitcoinRpc, words: str) -> None:
    with pytest.raises(NodeAwayError, match=words):
        node.call(int, "getblockcount")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "no node answers at node:8332"),
        (httpx.ReadTimeout("slow"), "did not answer getblockcount in time"),
        (httpx.RemoteProtocolError("gone"), "the connection to node:8332 broke"),
    ],
)
def test_a_connection_that_fails_is_said_in_words(error: Exception, words: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(SourceAwayError, match=words) as raised:
        rpc(fail).call(int, "getblockcount")
    assert SECRET not in str(raised.value)


def test_a_call_that_is_refused_says_why() -> None:
    with pytest.raises(RpcError, match=r"the node refuses getblock: Block not found \(-5\)") as raised:
        says({"result": None, "error": {"code": -5, "message": "Block not found"}}, 500).call(str, "getblock")
    assert raised.value.code == -5


@pytest.mark.parametrize("body", [{"result": None, "error": {"code": -32600, "message": "too large"}, "id": None}])
def test_a_batch_that_is_refused_whole_says_why(body: Any) -> None:
    with pytest.raises(RpcError, match="too large"):
        says(body, 500).batch(int, "x", [()])


def test_a_batch_with_an_answer_too_few_is_refused() -> None:
    with pytest.raises(NodeAwayError, match="unanswered"):
        says([{"result": 1, "error": None, "id": 0}]).batch(int, "x", [(), ()])
    with pytest.raises(NodeAwayError, match="is starting"):
        says([{"result": None, "error": {"code": -28, "message": "wait"}, "id": 0}]).batch(int, "x", [()])


@pytest.mark.parametrize("url", ["", "node:8332", "tcp://node:8332", "http://node", f"http://u:{SECRET}@node:port"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(RpcUrlError) as raised:
        BitcoinRpc(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_password_is_in_no_text() -> None:
    assert SECRET not in repr(BitcoinRpc(URL))
    assert "p%40ss" not in repr(BitcoinRpc(URL))


@pytest.mark.parametrize(
    ("subversion", "name"),
    [
        ("/Satoshi:29.0.0/", "Bitcoin Core 29.0"),
        ("/Satoshi:29.4.3/Knots:20260508/", "Bitcoin Knots 29.4"),
        ("/Satoshi:0.21.1/", "Bitcoin Core 0.21"),
        ("/btcd:0.24/", "btcd:0.24"),
    ],
)
def test_the_program_is_named_as_people_do(subversion: str, name: str) -> None:
    assert program(subversion) == name
