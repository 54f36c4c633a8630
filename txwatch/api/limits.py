"""How much a client may ask for: the size of a body, and how many requests a second."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from txwatch.api.problems import ProblemError, problem_response

UNLIMITED = ("/health/", "/metrics")
"""What a supervisor asks is answered also while a client on the same machine asks too much."""


@dataclass(frozen=True)
class Limits:
    """`body_bytes` of one request; for each client `per_second` requests on average and `burst` at once."""

    body_bytes: int = 16 * 1024 * 1024
    per_second: float = 50
    burst: int = 200


class BodyTooLargeError(Exception):
    """More was sent than may be."""


class BodyLimit:
    """Refuses bodies that are too large: by what the header says, and by what really comes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        announced = request.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > self.limit:
            await self._refuse(request, scope, receive, send)
            return
        received, started = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise BodyTooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except BodyTooLargeError:
            if started:
                raise
            await self._refuse(request, scope, receive, send)

    async def _refuse(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        error = ProblemError(413, f"a body may have {self.limit:,} bytes", headers={"Connection": "close"})
        await problem_response(request, error)(scope, receive, send)


@dataclass
class TokenBuckets:
    """One bucket for each client, refilled steadily. Those of clients that were long quiet are forgotten."""

    per_second: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    remembered: int = 10_000
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, client: str) -> float:
        """Take one token. Gives 0, or the seconds after which there is one again."""
        now = self.clock()
        tokens, at = self._buckets.pop(client, (float(self.burst), now))
        tokens = min(float(self.burst), tokens + (now - at) * self.per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.per_second
        self._buckets[client] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > self.remembered:
            self._buckets.popitem(last=False)
        return wait


class RateLimit:
    """Refuses a client that asks too often, and says when it may again."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.buckets = TokenBuckets(limits.per_second, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and not scope["path"].startswith(UNLIMITED):
            client = scope["client"][0] if scope.get("client") else ""
            if wait := self.buckets.take(client):
                error = ProblemError(429, f"too many requests: try again in {wait:.1f} s")
                error.headers["Retry-After"] = str(ceil(wait))
                await problem_response(Request(scope), error)(scope, receive, send)
                return
        await self.app(scope, receive, send)
