"""The connection to the feed: subscribes, listens, and comes back after every end of a connection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from txwatch.clock import Clock
from txwatch.wire.messages import SUBSCRIBE_BLOCKS, SUBSCRIBE_TRANSACTIONS

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Real messages reach 3.9 MB; the library's own limit of 1 MiB would close the connection on them."""
SILENCE_SECONDS = 30.0
"""At ordinary rates a feed that says nothing for this long is dead, although its connection may look alive."""


@dataclass(frozen=True)
class Received:
    """One message as it came, stamped at receipt."""

    seen_at: datetime
    body: bytes


@dataclass(frozen=True)
class Subscribed:
    """The connection stands and everything is subscribed."""

    at: datetime


@dataclass(frozen=True)
class Disconnected:
    """The connection ended; what comes until the next Subscribed is missed."""

    at: datetime
    cause: str


FeedEvent = Received | Subscribed | Disconnected


async def listen(url: str, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS) -> AsyncGenerator[FeedEvent]:
    """Follow the feed for ever. Connecting is retried by the library with a growing, jittered delay."""
    async for websocket in connect(url, max_size=MAX_MESSAGE_BYTES, ping_interval=20, ping_timeout=20):
        try:
            await websocket.send(SUBSCRIBE_TRANSACTIONS)
            await websocket.send(SUBSCRIBE_BLOCKS)
            yield Subscribed(clock())
            async for received in _messages(websocket, clock, silence_seconds):
                yield received
        except ConnectionClosed as error:
            cause = f"connection closed: {error}"
        except TimeoutError:
            cause = f"no message for {silence_seconds:g} s"
        log.warning("feed_disconnected", cause=cause)
        yield Disconnected(clock(), cause)


async def _messages(websocket: ClientConnection, clock: Clock, silence_seconds: float) -> AsyncIterator[Received]:
    while True:
        async with asyncio.timeout(silence_seconds):
            body = await websocket.recv(decode=False)
        yield Received(clock(), body)
