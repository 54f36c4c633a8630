"""blockchain.info: a WebSocket feed of unconfirmed transactions and blocks.

It resolves spent outputs, but does not say which transaction made them, nor how old they are, and has no mempool that
could be asked for what was missed.
"""

from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec
from websockets.uri import parse_uri

from txwatch.clock import Clock
from txwatch.sources.source import BlockFound, Health, Ignored, Malformed, Seen, Source, SourceAwayError, Told
from txwatch.sources.websocket import SILENCE_SECONDS, WatchedSocket
from txwatch.wire.messages import (
    PING,
    SUBSCRIBE_BLOCKS,
    SUBSCRIBE_TRANSACTIONS,
    BlockAnnouncement,
    MalformedMessageError,
    UnconfirmedTransaction,
    decode,
)
from txwatch.wire.transaction import Origin, from_wire

NAME = "blockchain.info"


class Received(msgspec.Struct, frozen=True, gc=False):
    """One message, stamped at receipt."""

    seen_at: datetime
    body: bytes


class BlockchainInfo(Source):
    """The feed at `url`. Raises InvalidURI if that is no WebSocket URL."""

    def __init__(self, url: str, clock: Clock, *, name: str = NAME, silence_seconds: float = SILENCE_SECONDS) -> None:
        super().__init__(name, clock)
        parse_uri(url)
        self._url = url
        self._silence_seconds = silence_seconds
        self._socket: WatchedSocket | None = None

    async def open(self) -> None:
        # The answer to the ping, if there is one, comes after both subscriptions were heard.
        subscriptions = (SUBSCRIBE_TRANSACTIONS, SUBSCRIBE_BLOCKS)
        self._socket = await WatchedSocket.open(self._url, subscriptions, PING, self._silence_seconds)

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def messages(self) -> AsyncGenerator[Received]:
        """The messages as they came. Raises SourceAwayError."""
        if self._socket is None:
            raise SourceAwayError("not connected")
        async for body in self._socket.messages():
            self.heard_until = self.clock()
            yield Received(self.heard_until, body)

    async def events(self) -> AsyncGenerator[Told]:
        async for received in self.messages():
            yield told(received)

    async def health(self) -> Health:
        socket = await WatchedSocket.open(self._url, (), PING, self._silence_seconds)
        await socket.close()
        return Health("connected")


def told(received: Received, origin: Origin = "feed") -> Told:
    """What a message says, decoded and validated."""
    try:
        message = decode(received.body)
        if isinstance(message, UnconfirmedTransaction):
            return Seen(from_wire(message.x, received.seen_at, origin), len(received.body))
    except MalformedMessageError as error:
        return Malformed(received.seen_at, str(error), received.body)
    if isinstance(message, BlockAnnouncement):
        return BlockFound(message.x)
    return Ignored(len(received.body))
