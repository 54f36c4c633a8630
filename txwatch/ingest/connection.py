"""The connection to the feed: subscribe, listen, reconnect."""

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
"""Bytes; real messages reach 3.9 MB, and the library's own limit of 1 MiB would close the connection on them."""
SILENCE_SECONDS = 30.0
"""Seconds; at ordinary rates a feed silent for longer is dead, although its connection may look alive."""
_SILENCE_INTERVALS = 20
"""Mean intervals between transactions: a slow feed may be silent for so many, if that is longer."""
_IDLE_SECONDS = 10.0
"""Seconds between pings; older documentation of the feed asks for traffic at least every 30 s."""
_SMALLEST_TRANSACTION_BYTES = 200
"""Bytes; a shorter message, such as the answer to a ping, does not show that transactions still come."""
_STABLE_SECONDS = 5.0
"""Seconds; delays start anew after a connection that lasted longer."""

Delays = Callable[[], Generator[float]]


class Received(msgspec.Struct, frozen=True, gc=False):
    """One message, stamped at receipt."""

    seen_at: datetime
    body: bytes


class Subscribed(msgspec.Struct, frozen=True):
    """Transactions and blocks were asked for. What is heard from the next message on is complete."""

    at: datetime


class Disconnected(msgspec.Struct, frozen=True):
    """The connection ended. Whatever was sent between `heard_until`, the last receipt, and the next one is missed."""

    heard_until: datetime
    cause: str


FeedEvent = Received | Subscribed | Disconnected


def reconnect_delays() -> Generator[float]:
    """Seconds before each attempt to connect: from 0.2 doubling to 30, jittered by half."""
    delay = 0.2
    while True:
        yield delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
        delay = min(delay * 2, 30.0)


async def listen(
    url: str, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS, delays: Delays = reconnect_delays
) -> AsyncGenerator[FeedEvent]:
    """Follow the feed for ever; retry whatever a server does. Raises InvalidURI if `url` is no WebSocket URL."""
    loop = asyncio.get_running_loop()
    pauses = delays()
    async for websocket in _Connecting(
        url,
        max_size=MAX_MESSAGE_BYTES,
        compression=None,  # inflating costs more than the bytes that it saves
        ping_interval=20,
        ping_timeout=20,
        close_timeout=2,
        process_exception=lambda _: None,  # also InvalidURI, from a redirect to what is no WebSocket
        reconnect_delays=delays,
    ):
        connected_at = loop.time()
        heard_until = clock()
        watchdog = _Watchdog(websocket, silence_seconds)
        watching = asyncio.create_task(watchdog.watch())
        try:
            await websocket.send(SUBSCRIBE_TRANSACTIONS)
            await websocket.send(SUBSCRIBE_BLOCKS)
            # The answer, if there is one, comes after both subscriptions were heard.
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
        # The library waits only when connecting fails, not for a server that accepts and closes.
        if loop.time() - connected_at > _STABLE_SECONDS:
            pauses = delays()
        await asyncio.sleep(next(pauses))


class _Connecting(connect):
    """Begins each attempt at the given address; the library stays with a redirect's, such as a network's login page."""

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self._given = self.uri, self.ws_uri

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        self.uri, self.ws_uri = self._given
        return super().__await__()


class _Watchdog:
    """Pings an idle connection, and ends a silent one. It polls `count`, so that a message costs no timer."""

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
                # Without the closing handshake, which nobody may answer.
                self._websocket.transport.abort()
                return
            if now - max(heard, pinged) >= min(_IDLE_SECONDS, self._silence_seconds / 3):
                pinged = now
                with suppress(ConnectionClosed):
                    await self._websocket.send(PING)
