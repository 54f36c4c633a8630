"""A server that speaks mempool.space's protocol, and does to its clients what a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from txwatch.lab.simulator.subscribers import MEMPOOL_SPACE_PATH

TIP = "0" * 63 + "9"
Act = Callable[["MempoolServer", ServerConnection], Awaitable[None]]


class MempoolServer:
    """Plays an act to each client that has subscribed, the last one again and again, and answers REST requests.

    `answers` holds by path what is answered: JSON, or bytes as they are. `refusals` come first, for any path: a status
    and headers each. `asked` are the paths that were asked for, `heard` what clients have said.
    """

    def __init__(self, *acts: Act) -> None:
        self._acts = acts
        self.url = ""
        self.connections = 0
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "/api/mempool/txids": [],
            "/api/blocks/tip/hash": TIP.encode(),
            f"/api/block/{TIP}": {"id": TIP, "height": 9, "timestamp": 0, "tx_count": 1},
            "/api/mempool": {"count": 0},
        }
        self.refusals: list[tuple[int, dict[str, str]]] = []

    def hold(self, *transactions: dict[str, Any]) -> None:
        """Let the mempool hold these, the newest last."""
        self.answers["/api/mempool/txids"] = [tx["txid"] for tx in transactions]
        self.answers |= {f"/api/tx/{tx['txid']}": tx for tx in transactions}

    @property
    def asked_for(self) -> list[int]:
        """The numbers of the transactions that were asked for."""
        return sorted(int(path.removeprefix("/api/tx/"), 16) for path in self.asked if path.startswith("/api/tx/"))

    def answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        if request.path == MEMPOOL_SPACE_PATH:
            return None
        self.asked.append(request.path)
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return _response(status, b"", headers)
        answer = self.answers.get(request.path)
        if answer is None:
            return _response(404, b"not found", {})
        return _response(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), {})

    async def play(self, connection: ServerConnection) -> None:
        act = self._acts[min(self.connections, len(self._acts) - 1)]
        self.connections += 1
        with suppress(ConnectionClosed):
            while "track-mempool" not in (self.heard or [""])[-1]:
                self.heard.append(str(await connection.recv()))
            listening = asyncio.create_task(self._listen(connection))
            try:
                await act(self, connection)
            finally:
                listening.cancel()

    async def _listen(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                self.heard.append(str(await connection.recv()))


def _response(status: int, body: bytes, headers: dict[str, str]) -> Response:
    given = {"Content-Length": str(len(body)), "Connection": "close"} | headers
    return Response(status, HTTPStatus(status).phrase, Headers(given), body)


def says(*messages: bytes, stays: bool = True) -> Act:
    """Says these, and then nothing more until the client leaves; or ends the connection."""

    async def act(_server: MempoolServer, connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message, text=True)
        if stays:
            await connection.wait_closed()

    return act


@asynccontextmanager
async def mempool_server(*acts: Act) -> AsyncIterator[MempoolServer]:
    """Serve on loopback for the block."""
    it = MempoolServer(*(acts or (says(),)))
    async with serve(
        it.play, "127.0.0.1", 0, process_request=it.answer, max_size=None, compression=None, close_timeout=1
    ) as server:
        it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield it
