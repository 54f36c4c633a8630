"""Bounds for what HTTP clients read: an answer's bytes and its time, those of redirects too, and nothing to inflate.

httpx itself reads whatever comes: a body that trickles for days, and a redirect's whole body before it is followed. A
kilobyte that is compressed, more than once even, becomes gigabytes in one step; so nothing compressed is asked for.
"""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, Self

import httpx

MAX_PORT = 2**16 - 1
_USER_INFO = re.compile(r"//[^/?#]*@")


class EndlessAnswerError(httpx.ReadError):
    """An answer has more bytes than it may, or takes longer."""


def shown(url: str) -> str:
    """An address without the user and the password that it may hold."""
    return _USER_INFO.sub("//", url, count=1)


class BoundedClient:
    """HTTP for callers without an event loop. A request has so many seconds in all, and its answer so many bytes.

    httpx's own time-outs are for each part that comes: a head, or the length of a chunk, that trickles by the byte has
    no end by them, and no hook sees it. So an httpx.AsyncClient asks, whose requests can be ended, in a thread of its
    own. The first request opens it; threads may share it. `options` are those of httpx.AsyncClient.
    """

    def __init__(self, max_bytes: int, seconds: float, **options: Any) -> None:
        self._seconds = seconds
        self._options = options | {"event_hooks": bounds(max_bytes)}
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The address that paths are relative to, as it may be shown; "" without one."""
        return shown(str(self._options.get("base_url", "")))

    def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        """An answer, read whole. Raises httpx.HTTPError, and what httpx raises for an address that is none."""
        # Under the lock: what is asked of a loop that has ended would never be answered.
        with self._lock:
            self._opened = self._opened or _open(self._options)
            asked = self._within_bounds(self._opened.client, method, url, given)
            answer = asyncio.run_coroutine_threadsafe(asked, self._opened.loop)
        try:
            return answer.result()
        except CancelledError:
            raise httpx.ReadError("the client was closed") from None

    async def _within_bounds(
        self, client: httpx.AsyncClient, method: str, url: str, given: dict[str, Any]
    ) -> httpx.Response:
        try:
            async with asyncio.timeout(self._seconds):
                return await client.request(method, url, **given)
        except TimeoutError:
            raise EndlessAnswerError(f"no end after {self._seconds:g} s") from None

    def close(self) -> None:
        """End what is being asked, and the connections. The next request opens others."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                # Not waited for: its thread may look up a name, and the caller may have a loop of its own.
                opened.loop.call_soon_threadsafe(opened.stop.set)


class _Opened(NamedTuple):
    client: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


def _open(options: dict[str, Any]) -> _Opened:
    """A client in a thread, until `stop` is set; what is being asked then is cancelled. Raises httpx.ConnectError."""
    client = httpx.AsyncClient(**options)
    began = Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        stop = asyncio.Event()
        async with client:
            began.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except OSError as error:
            if began.done():
                raise
            # Too many files are open: a loop needs three.
            began.set_exception(httpx.ConnectError(str(error)))

    threading.Thread(target=run, name="http", daemon=True).start()
    return _Opened(client, *began.result())


class _Body(httpx.AsyncByteStream):
    """A body within `max_bytes`."""

    def __init__(self, whole: Any, max_bytes: int) -> None:
        self._whole = whole
        self._max_bytes, self._came = max_bytes, 0

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for part in self._whole:
            self._came += len(part)
            if self._came > self._max_bytes:
                raise EndlessAnswerError(f"no end after {self._came:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._whole.aclose()


def bounds(max_bytes: int) -> dict[str, list[Callable[[Any], Awaitable[None]]]]:
    """The event hooks of an httpx.AsyncClient: answers have so many bytes at most, else EndlessAnswerError.

    The caller bounds their time, by asyncio.timeout.
    """

    async def bound(response: httpx.Response) -> None:
        # Compressed all the same, it cannot be read.
        response.headers.pop("Content-Encoding", None)
        response.stream = _Body(response.stream, max_bytes)

    return {"request": [_prepare], "response": [bound]}


async def _prepare(request: httpx.Request) -> None:
    if (request.url.port or 0) > MAX_PORT:
        # Such as one that a redirect names: httpx gives the operating system's error, in a group of errors.
        raise httpx.ConnectError(f"there is no port {request.url.port}")
    request.headers["Accept-Encoding"] = "identity"
