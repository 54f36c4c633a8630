"""Bounds for what HTTP clients read: an answer's bytes and its time, those of redirects too, and nothing to inflate.

httpx itself reads whatever comes: a body that trickles for days, and a redirect's whole body before it is followed. A
kilobyte that is compressed, more than once even, becomes gigabytes in one step; so nothing compressed is asked for.
"""

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import httpx


class EndlessAnswerError(httpx.ReadError):
    """An answer has more bytes than it may, or takes longer."""


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body within `max_bytes`, which must come until a moment."""

    def __init__(self, whole: Any, max_bytes: int, until: float, monotonic: Callable[[], float]) -> None:
        self._whole = whole
        self._left, self._came, self._until, self._monotonic = max_bytes, 0, until, monotonic

    def _count(self, part: bytes) -> bytes:
        self._came += len(part)
        if self._came > self._left or self._monotonic() > self._until:
            raise EndlessAnswerError(f"no end after {self._came:,} bytes")
        return part

    def __iter__(self) -> Generator[bytes]:
        for part in self._whole:
            yield self._count(part)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for part in self._whole:
            yield self._count(part)

    def close(self) -> None:
        self._whole.close()

    async def aclose(self) -> None:
        await self._whole.aclose()


def bounds(
    max_bytes: int, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> dict[str, list[Callable[[Any], None]]]:
    """The event hooks of an httpx.Client: answers have so many bytes at most, and so many seconds after their head.

    What goes on raises EndlessAnswerError.
    """

    def bound(response: httpx.Response) -> None:
        # Compressed all the same, it cannot be read.
        response.headers.pop("Content-Encoding", None)
        response.stream = _Body(response.stream, max_bytes, monotonic() + seconds, monotonic)

    return {"request": [_ask_for_none_compressed], "response": [bound]}


def async_bounds(max_bytes: int) -> dict[str, list[Callable[[Any], Awaitable[None]]]]:
    """The same for an httpx.AsyncClient, whose time the caller bounds with asyncio.timeout."""

    def awaited(hook: Callable[[Any], None]) -> Callable[[Any], Awaitable[None]]:
        async def hooked(subject: httpx.Request | httpx.Response) -> None:
            hook(subject)

        return hooked

    return {name: list(map(awaited, hooks)) for name, hooks in bounds(max_bytes, math.inf).items()}


def _ask_for_none_compressed(request: httpx.Request) -> None:
    request.headers["Accept-Encoding"] = "identity"
