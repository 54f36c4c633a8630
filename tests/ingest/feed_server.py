"""A WebSocket server that plays a script: what a feed does to its clients, good and bad."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_AT_ONCE = 100
"""Messages that a broadcast sends before others of its process have their turn again."""


@dataclass
class ScriptedFeed:
    """Plays one act to each client that has subscribed, the n-th act to the n-th client; the last act goes on.

    `url` is where it listens; `heard` what each client has said; `connections` how many came.
    """

    acts: list[Callable[["Stage"], Awaitable[None]]]
    url: str = ""
    connections: int = 0
    heard: list[list[str]] = field(default_factory=list)

    async def play(self, websocket: ServerConnection) -> None:
        act = self.acts[min(self.connections, len(self.acts) - 1)]
        self.connections += 1
        heard: list[str] = []
        self.heard.append(heard)
        stage = Stage(websocket)
        try:
            while not any("unconfirmed_sub" in said for said in heard):
                heard.append(str(await websocket.recv()))
            listening = asyncio.create_task(self._listen(websocket, heard))
            try:
                await act(stage)
            finally:
                listening.cancel()
        except ConnectionClosed:
            pass

    async def _listen(self, websocket: ServerConnection, heard: list[str]) -> None:
        with suppress(ConnectionClosed):
            while True:
                heard.append(str(await websocket.recv()))


@dataclass
class Stage:
    """What an act can do to its client."""

    websocket: ServerConnection

    async def send(self, *messages: bytes | str) -> None:
        """Send messages as text frames."""
        for message in messages:
            await self.websocket.send(message, text=True)

    async def close(self, code: int) -> None:
        """Close with a code and a handshake."""
        await self.websocket.close(code)

    def abort(self) -> None:
        """Reset the connection."""
        self.websocket.transport.abort()

    async def stay(self) -> None:
        """Say nothing more, until the client leaves."""
        await self.websocket.wait_closed()


@asynccontextmanager
async def scripted_feed(*acts: Callable[[Stage], Awaitable[None]], port: int = 0) -> AsyncIterator[ScriptedFeed]:
    """Serve the acts on loopback for the block."""
    feed = ScriptedFeed(list(acts))
    async with serve(feed.play, "127.0.0.1", port, max_size=None, compression=None, close_timeout=1) as server:
        feed.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/inv"
        yield feed


class Broadcast:
    """An act in which all clients hear one stream of messages, each when it is sent, as from the real feed.

    `rate` is in messages a second. A machine that is too slow for it sends as fast as it can.
    """

    def __init__(self, message: Callable[[int], bytes], rate: float) -> None:
        self._message = message
        self._rate = rate
        self._number = 0
        self._stages: list[Stage] = []
        self.sent: list[bytes] = []
        """What at least one client was sent."""

    async def __call__(self, stage: Stage) -> None:
        self._stages.append(stage)
        try:
            await stage.stay()
        finally:
            self._stages.remove(stage)

    @asynccontextmanager
    async def on_air(self) -> AsyncIterator[None]:
        """Send for the block."""
        self._sending = asyncio.create_task(self._send())
        try:
            yield
        finally:
            self._sending.cancel()

    def stop(self) -> None:
        """Send no more, so that everything can be compared."""
        self._sending.cancel()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        began, first = loop.time(), self._number
        while True:
            await asyncio.sleep(0.01)
            due = int((loop.time() - began) * self._rate) - (self._number - first)
            for _ in range(min(due, _AT_ONCE)):
                message = self._message(self._number)
                self._number += 1
                if self._stages:
                    self.sent.append(message)
                for stage in list(self._stages):
                    with suppress(ConnectionClosed):
                        await stage.send(message)
