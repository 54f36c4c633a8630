"""A WebSocket connection that is pinged while idle, and ended when it falls silent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from txwatch.sources.source import SourceAwayError

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Bytes; real messages reach 3.9 MB, and the library's own limit of 1 MiB would close the connection on them."""
SILENCE_SECONDS = 30.0
"""Seconds; at ordinary rates a feed silent for longer is dead, although its connection may look alive."""
_SILENCE_INTERVALS = 20
"""Mean intervals between transactions: a slow feed may be silent for so many, if that is longer."""
_IDLE_SECONDS = 10.0
"""Seconds between pings; older documentation of blockchain.info's feed asks for traffic at least every 30 s."""
SMALLEST_TRANSACTION_BYTES = 200
"""Bytes of the shortest message that blockchain.info sends of a transaction."""


class WatchedSocket:
    """A connection to a feed. `ping` is the message that keeps it awake.

    A message shorter than `least_bytes`, such as the answer to a ping, does not show that transactions still come.
    """

    def __init__(self, websocket: ClientConnection, ping: str, silence_seconds: float, least_bytes: int) -> None:
        self._websocket = websocket
        self._least_bytes = least_bytes
        self._watchdog = _Watchdog(websocket, ping, silence_seconds)
        self._watching = asyncio.create_task(self._watchdog.watch())

    @classmethod
    async def open(
        cls,
        url: str,
        subscriptions: tuple[str, ...],
        ping: str,
        silence_seconds: float,
        least_bytes: int = SMALLEST_TRANSACTION_BYTES,
    ) -> "WatchedSocket":
        """Connect, and send the subscriptions. Raises SourceAwayError, and InvalidURI if `url` is none."""
        try:
            websocket = await connect(
                url,
                max_size=MAX_MESSAGE_BYTES,
                compression=None,  # inflating costs more than the bytes that it saves
                ping_interval=20,
                ping_timeout=20,
                close_timeout=2,
            )
            for message in (*subscriptions, ping):
                await websocket.send(message)
        # A redirect can lead anywhere, so that even a wrong address is the server's doing.
        except (OSError, WebSocketException, ValueError) as error:
            raise SourceAwayError(f"{type(error).__name__}: {error}") from error
        return cls(websocket, ping, silence_seconds, least_bytes)

    async def messages(self) -> AsyncGenerator[bytes]:
        """The bodies of messages until the connection ends. Raises SourceAwayError then."""
        try:
            while True:
                body = await self._websocket.recv(decode=False)
                if len(body) >= self._least_bytes:
                    self._watchdog.count += 1
                yield body
        except ConnectionClosed as error:
            raise SourceAwayError(self._watchdog.verdict or f"connection closed: {error}") from error

    async def close(self) -> None:
        """Close the connection."""
        self._watching.cancel()
        await self._websocket.close()


class _Watchdog:
    """Pings an idle connection, and ends a silent one. It polls `count`, so that a message costs no timer."""

    def __init__(self, websocket: ClientConnection, ping: str, silence_seconds: float) -> None:
        self._websocket = websocket
        self._ping = ping
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
                    await self._websocket.send(self._ping)
