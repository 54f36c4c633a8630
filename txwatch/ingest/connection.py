"""The connection to the feed: subscribes, listens, and comes back after every end of a connection."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from txwatch.clock import Clock
from txwatch.wire.messages import PING, SUBSCRIBE_BLOCKS, SUBSCRIBE_TRANSACTIONS

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Real messages reach 3.9 MB; the library's own limit of 1 MiB would close the connection on them."""
SILENCE_SECONDS = 30.0
"""At ordinary rates a feed that says nothing for this long is dead, although its connection may look alive."""
_SILENCE_INTERVALS = 20
"""A slow feed is given this many of its own mean intervals, if that is longer."""
_IDLE_SECONDS = 10.0
"""Older documentation of the feed asks for traffic at least every 30 s."""
_SMALLEST_TRANSACTION_BYTES = 200
"""A shorter message, such as the answer to a ping, is no sign that transactions still come."""
_SETTLED_SECONDS = 5.0

Delays = Callable[[], Generator[float]]


class Received(msgspec.Struct, frozen=True, gc=False):
    """One message as it came, stamped at receipt."""

    seen_at: datetime
    body: bytes


class Subscribed(msgspec.Struct, frozen=True):
    """The connection stands and everything was asked for. What is heard from the next message on is complete."""

    at: datetime


class Disconnected(msgspec.Struct, frozen=True):
    """The connection ended. What came after `heard_until` is missed, until the first message of the next connection.

    `heard_until` is the last message's receipt: when a feed fell silent, nobody knows when it stopped sending.
    """

    heard_until: datetime
    cause: str


FeedEvent = Received | Subscribed | Disconnected


def reconnect_delays() -> Generator[float]:
    """Seconds before each attempt to connect: at once, then growing to half a minute, all jittered."""
    delay = 0.2
    while True:
        yield delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
        delay = min(delay * 2, 30.0)


async def listen(
    url: str, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS, delays: Delays = reconnect_delays
) -> AsyncGenerator[FeedEvent]:
    """Follow the feed for ever. Whatever a server does is retried. Raises InvalidURI if `url` is no WebSocket URL."""
    loop = asyncio.get_running_loop()
    restless = delays()
    async for websocket in _Connecting(
        url,
        max_size=MAX_MESSAGE_BYTES,
        compression=None,  # inflating costs more than the bytes that it saves
        ping_interval=20,
        ping_timeout=20,
        close_timeout=2,
        process_exception=lambda _: (
            None
        ),  # a redirect to what is no WebSocket raises InvalidURI, and passes like others
        reconnect_delays=delays,
    ):
        connected_at = loop.time()
        heard_until = clock()
        watchdog = _Watchdog(websocket, silence_seconds)
        watching = asyncio.create_task(watchdog.watch())
        try:
            await websocket.send(SUBSCRIBE_TRANSACTIONS)
            await websocket.send(SUBSCRIBE_BLOCKS)
            # Its answer, if there is one, comes after both were heard.
            await websocket.send(PING)
            yield Subscribed(clock())
            while True:
                body = await websocket.recv(decode=False)
                heard_until = clock()
                if len(body) >= _SMALLEST_TRANSACTION_BYTES:
                    watchdog.count += 1
                yield Received(heard_until, body)
        except ConnectionClosed as error:
            cause = watchdog.verdict or f"connection closed: {error}"
        finally:
            watching.cancel()
        log.warning("feed_disconnected", cause=cause)
        yield Disconnected(heard_until, cause)
        # The library waits only when connecting fails. A server that accepts and closes must not be hammered.
        if loop.time() - connected_at > _SETTLED_SECONDS:
            restless = delays()
        await asyncio.sleep(next(restless))


class _Connecting(connect):
    """Begins each attempt at the address that it was given.

    The library stays with the address that a redirect once led to, which may be a login page of the network's.
    """

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self._given = self.uri, self.ws_uri

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        self.uri, self.ws_uri = self._given
        return super().__await__()


class _Watchdog:
    """Pings a connection that is idle, and ends one that has fallen silent.

    It looks at a count a few times in the silence that it allows, so that a message costs an addition and no timer.
    """

    def __init__(self, websocket: ClientConnection, silence_seconds: float) -> None:
        self._websocket = websocket
        self._silence_seconds = silence_seconds
        self.count = 0
        self.verdict: str | None = None

    async def watch(self) -> None:
        tick = self._silence_seconds / 30
        loop = asyncio.get_running_loop()
        began = heard = pinged = loop.time()
        counted = 0
        while True:
            await asyncio.sleep(tick)
            now = loop.time()
            if self.count != counted:
                counted, heard = self.count, now
                continue
            mean_interval = (heard - began) / counted if counted else 0.0
            if now - heard >= max(self._silence_seconds, _SILENCE_INTERVALS * mean_interval):
                self.verdict = f"no transaction for {now - heard:.0f} s"
                # No closing handshake: nobody may be there to answer it.
                self._websocket.transport.abort()
                return
            if now - max(heard, pinged) >= min(_IDLE_SECONDS, self._silence_seconds / 3):
                pinged = now
                with suppress(ConnectionClosed):
                    await self._websocket.send(PING)
