"""Who may ask, how much, and a record of every request.

Without a key the server answers loopback only, and refuses writes and scoring altogether.
"""

import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import ceil
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from txwatch.api.problems import ProblemError, problem_response
from txwatch.logs import about
from txwatch.metrics import RequestMetrics

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="The value of TXWATCH_API_KEY.")


def require_key(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Let only requests pass that carry the key. Raises ProblemError."""
    key = request.app.state.settings.api_key
    if key is None:
        raise ProblemError(403, "writes and scoring are off: set TXWATCH_API_KEY to allow them")
    given = "" if credentials is None else credentials.credentials
    # Compared in constant time, so that how long a refusal takes says nothing about the key.
    if not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        raise ProblemError(
            401, "this needs the key: send `Authorization: Bearer <key>`", headers={"WWW-Authenticate": "Bearer"}
        )


KeyRequired = Depends(require_key)


class LoopbackOnly:
    """Refuses what does not come from this machine. By which name it was asked is the guard's question."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            request = Request(scope)
            if not (request.client and _is_loopback(request.client.host)):
                error = ProblemError(403, "without TXWATCH_API_KEY this answers on loopback only")
                await problem_response(request, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


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


log = structlog.get_logger(__name__)

HEADER = b"x-request-id"
SHOWN_PATH = 200
"""Characters of a path in a line of the log, which is searched for secrets. It is cut."""
_USABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


class Observing:
    """ASGI middleware. A request id that the client sends is kept if it is a plain word."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _USABLE.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        path = scope["path"][:SHOWN_PATH]
        began, status = time.perf_counter(), 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (HEADER, request_id.encode()), *_SAFE]
            await send(message)

        with about(request_id=request_id):
            try:
                await self.app(scope, receive, answered)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=path)
                if status:
                    raise
                error = ProblemError(500, "the server failed; its log has the cause under this request_id")
                await problem_response(request, error)(scope, receive, answered)
            finally:
                seconds = time.perf_counter() - began
                # The route's pattern, not the path: every txid would otherwise be a time series of its own.
                route = getattr(scope.get("route"), "path", "none")
                self.metrics.observe(scope["method"], route, status, seconds)
                log.info("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 1))
