"""Answers without an end, to each HTTP client that asks others than our own servers, over real sockets."""

import asyncio
import errno
import gzip
import socketserver
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date

import pytest

from tests.answering import answering, in_a_thread
from tests.waiting import wait_until
from txwatch.alerts import transport
from txwatch.alerts.sender import TelegramSender
from txwatch.answers import EndlessAnswerError
from txwatch.channels.outcomes import ChannelRefused, Outcome, Unknown
from txwatch.clock import utc_now
from txwatch.foreign import MAX_SAID, clean
from txwatch.ingest import rest
from txwatch.settings import Settings
from txwatch.sources import bitcoin_rpc, mempool_space_rest
from txwatch.sources.source import SourceAwayError
from txwatch.system import doctor
from txwatch.wire.messages import MalformedMessageError

BOUND = 8 << 10
"""Bytes of an answer in these tests."""


def long() -> Iterator[bytes]:
    return iter([b" " * 1_000] * 1_000)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (rest, "MAX_BYTES"),
        (bitcoin_rpc, "MAX_BYTES"),
        (mempool_space_rest, "MAX_ANSWER_BYTES"),
        (transport, "MAX_BYTES"),
        (doctor, "MAX_BYTES"),
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


def doctors_question(url: str) -> object:
    return doctor.ask(url)


async def sent(url: str) -> Outcome:
    async with TelegramSender("1:x", url) as sender:
        return await sender.send("42", "x")


@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest, doctors_question])
def test_an_answer_and_a_redirect_have_so_many_bytes_at_most(ask: Callable[[str], object], status: int) -> None:
    with (
        answering(status, {"Location": "/there"}, long) as url,
        pytest.raises((rest.RestError, SourceAwayError, EndlessAnswerError), match="no end after"),
    ):
        ask(url)


@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest])
def test_a_redirect_of_no_length_is_followed(ask: Callable[[str], object]) -> None:
    with answering(302, {"Location": "/there"}, lambda: iter([b"moved"])) as url:
        assert ask(url) in ([], b"[]")


@pytest.mark.parametrize(
    "place", ["http://a..b/", "http://xn--/", "http://127.0.0.1:99999999999999999999/", "http://[::1/"]
)
@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest])
def test_a_redirect_to_no_address_is_a_failed_request(ask: Callable[[str], object], place: str) -> None:
    with (
        answering(302, {"Location": place}, lambda: iter([b"moved"])) as url,
        pytest.raises((rest.RestError, SourceAwayError), match=r"Error|InvalidURL"),
    ):
        ask(url)


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


FOREVER = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "answers before the answer": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "length of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "a redirect's body": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b" "),
}
"""By what has no end: how an answer begins, and what trickles then."""


@contextmanager
def trickling(begins: bytes, goes_on: bytes, asked: list[bytes] | None = None) -> Iterator[str]:
    given_up = threading.Event()

    class Trickling(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = self.request.recv(1 << 16)
            if asked is not None:
                asked.append(request)
            try:
                self.request.sendall(begins)
                while not given_up.wait(0.05):
                    self.request.sendall(goes_on)
            except OSError:
                """The client has had enough."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickling) as server, in_a_thread(server) as url:
        try:
            yield url
        finally:
            given_up.set()


@pytest.mark.parametrize("ask", [blocks_by_rest, mempool_by_rest, height_by_rpc, doctors_question])
@pytest.mark.parametrize("endless", FOREVER.values(), ids=FOREVER)
def test_an_answer_that_trickles_is_given_up(
    ask: Callable[[str], object], endless: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of it comes in time."""
    for module in (rest, bitcoin_rpc, mempool_space_rest):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(doctor, "SECONDS", 0.3)
    with trickling(*endless) as url, pytest.raises((rest.RestError, SourceAwayError, EndlessAnswerError)):
        ask(url)


def test_what_had_no_end_is_not_asked_for_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times five minutes would hold up all others."""
    monkeypatch.setattr(rest, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(rest, "ATTEMPTS", 4)
    asked: list[bytes] = []
    with trickling(*FOREVER["body"], asked) as url, pytest.raises(rest.RestError):
        blocks_by_rest(url)
    assert len(asked) == 1


def test_a_client_without_a_file_left_for_its_loop_fails_as_one_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(main: Coroutine[object, object, None]) -> None:
        main.close()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("txwatch.answers.asyncio.run", refuse)
    with pytest.raises(SourceAwayError, match="no node answers"):
        height_by_rpc("http://127.0.0.1:1")


def test_a_client_that_is_closed_ends_what_it_asks() -> None:
    asked: list[bytes] = []
    with trickling(*FOREVER["headers"], asked) as url, ThreadPoolExecutor() as threads:
        node = bitcoin_rpc.BitcoinRpc(url)
        calls = [threads.submit(node.call, int, "getblockcount") for _ in range(3)]
        wait_until(lambda: len(asked) == len(calls), "all are asked")
        node.close()
        for call in calls:
            with pytest.raises(SourceAwayError, match="broke"):
                call.result()


def hostile() -> Iterator[bytes]:
    text = "\\u001b[2J\\u202e<b>x</b>\\n" + "a" * 2_000
    said = f'{{"ok": true, "description": "{text}", "result": {{"username": "{text}"}}, "version": "{text}"}}'
    return iter([said.encode()])


def test_what_others_say_is_one_line_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands at an address of ours decides no line of a terminal, and no length of a row."""
    with answering(400, {}, hostile) as url:
        sender = TelegramSender("1:a", url)
        refused = asyncio.run(sender.send("42", "x"))
    with answering(200, {}, hostile) as url:
        monkeypatch.setenv("MEMPOOL_SPACE_URL", url)
        monkeypatch.setenv("TXWATCH_SOURCES", "mempool.space")
        monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "1:a")
        monkeypatch.setenv("TELEGRAM_API_URL", url)
        found = [*doctor.look_at_feed(Settings()), *doctor.look_at_telegram(Settings())]
    assert any("the token is that of @" in one.text for one in found)
    assert isinstance(refused, ChannelRefused)
    for said in (refused.reason, str(SourceAwayError("\x1b" + "b" * 5_000)), *(one.text for one in found)):
        assert len(said) <= MAX_SAID
        assert said == clean(said)
