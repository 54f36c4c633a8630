"""Answers without an end, to each HTTP client that asks others than our own servers, over real sockets."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from txwatch.alerts import transport
from txwatch.alerts.sender import TelegramSender
from txwatch.channels.outcomes import Outcome, Unknown
from txwatch.clock import utc_now
from txwatch.ingest import rest
from txwatch.sources import bitcoin_rpc, mempool_space_rest
from txwatch.sources.source import SourceAwayError
from txwatch.wire.messages import MalformedMessageError

BOUND = 8 << 10
"""Bytes of an answer in these tests."""


@contextmanager
def answering(status: int, headers: dict[str, str], body: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """A server that gives the same answer to all but what it was led to, which is an empty listing."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.give()

        def do_POST(self) -> None:
            self.give()

        def give(self) -> None:
            at_the_end = self.path == "/there"
            self.send_response(200 if at_the_end else status)
            for name, value in {} if at_the_end else headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [b"[]"] if at_the_end else body():
                    self.wfile.write(part)
            except OSError:
                """The client has had enough."""

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


def long() -> Iterator[bytes]:
    return iter([b" " * 1_000] * 1_000)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (rest, "MAX_BYTES"),
        (bitcoin_rpc, "MAX_BYTES"),
        (mempool_space_rest, "MAX_ANSWER_BYTES"),
        (transport, "MAX_BYTES"),
    ):
        monkeypatch.setattr(module, name, BOUND)
    monkeypatch.setattr(rest, "ATTEMPTS", 1)
    monkeypatch.setattr(mempool_space_rest, "ATTEMPTS", 1)


def blocks_by_rest(url: str) -> object:
    with rest.block_source(url, 0) as source:
        return source.blocks_of(date(2024, 3, 14))


def mempool_by_rest(url: str) -> object:
    return asyncio.run(mempool_space_rest.MempoolSpaceRest(url, None, utc_now).get("/api/mempool/txids"))


def height_by_rpc(url: str) -> object:
    return bitcoin_rpc.BitcoinRpc(url).call(int, "getblockcount")


async def sent(url: str) -> Outcome:
    async with TelegramSender("1:x", url) as sender:
        return await sender.send("42", "x")


@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest])
def test_an_answer_and_a_redirect_have_so_many_bytes_at_most(ask: Callable[[str], object], status: int) -> None:
    with (
        answering(status, {"Location": "/there"}, long) as url,
        pytest.raises((rest.RestError, SourceAwayError), match="EndlessAnswerError: no end after"),
    ):
        ask(url)


@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest])
def test_a_redirect_of_no_length_is_followed(ask: Callable[[str], object]) -> None:
    with answering(302, {"Location": "/there"}, lambda: iter([b"moved"])) as url:
        assert ask(url) in ([], b"[]")


def test_a_nodes_answer_has_so_many_bytes_at_most() -> None:
    with answering(200, {}, long) as url, pytest.raises(SourceAwayError, match="no end after"):
        height_by_rpc(url)


def test_telegrams_answer_has_so_many_bytes_at_most() -> None:
    with answering(200, {}, long) as url:
        outcome = asyncio.run(sent(url))
    assert isinstance(outcome, Unknown)
    assert "no end after" in outcome.reason


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_nothing_is_inflated(encoding: str) -> None:
    body = b"[" + b" " * 50_000 + b"]"
    for _ in encoding.split(","):
        body = gzip.compress(body)
    with answering(200, {"Content-Encoding": encoding}, lambda: iter([body])) as url:
        with pytest.raises(MalformedMessageError):
            blocks_by_rest(url)
        assert mempool_by_rest(url) == body
        with pytest.raises(SourceAwayError, match="cannot be read"):
            height_by_rpc(url)


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_space_rest, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(bitcoin_rpc, "ANSWER_SECONDS", 0.3)
    given_up = threading.Event()

    def trickle() -> Iterator[bytes]:
        while not given_up.wait(0.05):
            yield b" "

    with answering(200, {}, trickle) as url:
        try:
            with pytest.raises(SourceAwayError, match="TimeoutError"):
                mempool_by_rest(url)
            with pytest.raises(SourceAwayError, match="no end after"):
                height_by_rpc(url)
        finally:
            given_up.set()
