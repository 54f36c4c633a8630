"""What a publisher sends that nobody asked for."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from txwatch.clock import utc_now
from txwatch.sources import bitcoin_zmq
from txwatch.sources.bitcoin_zmq import Hole, Notice, Subscription
from txwatch.sources.source import SourceAwayError

MIB = 1 << 20
FRAME, MORE, LONG, COMMAND = 0, 1, 2, 4
"""Flags of frames of ZMTP 3.0, the protocol of ZMQ (https://rfc.zeromq.org/spec/23)."""


def test_topics_that_only_begin_as_those_of_a_node_are_left_out() -> None:
    """A subscription is to a beginning: one who made up topics would fill the memory with their counters."""

    async def scenario() -> tuple[list[Notice | Hole], Any]:
        with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
            port = publisher.bind_to_random_port("tcp://127.0.0.1")
            subscription = await Subscription.open(f"tcp://127.0.0.1:{port}", utc_now)
            try:
                for _ in range(2):
                    await asyncio.to_thread(publisher.recv)  # both subscriptions have come
                for n in range(100):
                    publisher.send_multipart([b"rawtx%d" % n, b"x", n.to_bytes(4, "little")])
                publisher.send_multipart([b"rawtx", b"y", b"\0\0\0\0"])
                heard: list[Notice | Hole] = []
                while not heard:
                    assert await subscription.wait(60)
                    heard += subscription.read()
                return heard, subscription._counters
            finally:
                subscription.close()

    heard, counted = asyncio.run(scenario())
    assert heard == [Notice(b"rawtx", b"y")]
    assert list(counted) == [b"rawtx"]


def frame(flags: int, body: bytes) -> bytes:
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body


def endless_message() -> Iterator[bytes]:
    yield frame(MORE, b"rawtx")
    for _ in range(48):
        yield frame(MORE, bytes(MIB))


def messages_that_wait() -> Iterator[bytes]:
    for n in range(48):
        yield frame(MORE, b"rawtx") + frame(MORE, bytes(MIB)) + frame(FRAME, n.to_bytes(4, "little"))


HALF_IS_READ = Event()


def in_two_halves() -> Iterator[bytes]:
    for n, message in enumerate(messages_that_wait()):
        if n == 24:
            assert HALF_IS_READ.wait(60)
        yield message


@pytest.fixture
def publisher(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of one that speaks the protocol without its library, and sends what it is told to whoever connects."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as client:
                client.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
                client.sendall(frame(COMMAND, b"\x05READY\x0bSocket-Type" + (3).to_bytes(4, "big") + b"PUB"))
                said = b""
                while b"READY" not in said:
                    said += client.recv(MIB)
                for part in request.param():
                    client.sendall(part)
                while client.recv(MIB):  # until it is closed
                    pass

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(60)
    assert not thread.is_alive(), "the connection is closed"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a connection received")
@pytest.mark.parametrize("publisher", [endless_message, messages_that_wait], indirect=True)
def test_one_who_sends_without_end_is_given_up(publisher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message without end never comes: its frames wait in the library, which counts messages."""
    monkeypatch.setattr(bitcoin_zmq, "MAX_WAITING_BYTES", 32 * MIB)

    async def scenario() -> None:
        subscription = await Subscription.open(f"tcp://127.0.0.1:{publisher}", utc_now)
        try:
            while True:
                await subscription.wait(60)
        finally:
            subscription.close()

    with pytest.raises(SourceAwayError, match="32 MiB"):
        asyncio.run(scenario())


@pytest.mark.parametrize("publisher", [in_two_halves], indirect=True)
def test_one_who_is_read_may_send_any_number(publisher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitcoin_zmq, "MAX_WAITING_BYTES", 32 * MIB)

    async def scenario() -> int:
        subscription = await Subscription.open(f"tcp://127.0.0.1:{publisher}", utc_now)
        heard = 0
        try:
            while heard < 48:
                assert await subscription.wait(60)
                heard += len(subscription.read())
                if heard == 24:
                    HALF_IS_READ.set()
            return heard
        finally:
            subscription.close()

    assert asyncio.run(scenario()) == 48


@pytest.mark.parametrize("publisher", [lambda: iter(())], indirect=True)
def test_a_message_that_is_cut_with_its_connection_is_none(publisher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library drops the frames that it has when a connection ends, also those of a message that is being read."""
    frames = [SimpleNamespace(bytes=b"rawtx", more=True)]

    def recv(*_: object, **__: object) -> Any:
        if not frames:
            raise zmq.Again
        return frames.pop()

    async def scenario() -> list[Notice | Hole]:
        subscription = await Subscription.open(f"tcp://127.0.0.1:{publisher}", utc_now)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(zmq.Socket, "recv", recv)
                return subscription.read()
        finally:
            subscription.close()

    assert asyncio.run(scenario()) == []
