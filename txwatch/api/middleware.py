"""From where one may ask, and a line of the log for each request.

Without TXWATCH_API_KEY the server answers loopback only.
"""

import re
import secrets
import time
from ipaddress import ip_address

import structlog
from asgi_correlation_id import correlation_id
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from txwatch.api.problems import ProblemError, problem_response
from txwatch.metrics import RequestMetrics

log = structlog.get_logger(__name__)
LEFT = 499
"""The status in the log and the metrics of a request whose client left before its end, as of nginx."""
MAX_LOGGED = 200
"""Characters of a method or a path. Each line of the log is searched for secrets, which takes long for a long one."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ANSWERS_TO_WEBSOCKETS = {"websocket.accept": 101, "websocket.close": 403}
"""The status with which a server answers, by the first that the application sends."""
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


_ASKED = ("http", "websocket")
"""What somebody asks for; the server's own beginning and end are a scope too."""


class LoopbackOnly:
    """Refuses what does not come from this machine. The guard checks the name by which it was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _ASKED and not _is_loopback(scope):
            error = ProblemError(403, "without TXWATCH_API_KEY this answers on loopback only")
            await problem_response(HTTPConnection(scope), error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _is_loopback(scope: Scope) -> bool:
    try:
        return bool(scope.get("client")) and ip_address(scope["client"][0]).is_loopback
    except ValueError:
        return False


def new_request_id() -> str:
    """Sixteen hexadecimal digits."""
    return secrets.token_hex(8)


def keeps_request_id(given: str) -> bool:
    """Whether the id that a client sends is a plain word."""
    return _REQUEST_ID.fullmatch(given) is not None


class RequestLog:
    """Counts and logs each request and each WebSocket, with its id."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _ASKED:
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        method, path = scope.get("method", "GET")[:MAX_LOGGED], scope["path"][:MAX_LOGGED]
        began, status = time.perf_counter(), 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("http.response.start"):
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_SAFE_HEADERS]
            elif message["type"] in _ANSWERS_TO_WEBSOCKETS:
                status = status or _ANSWERS_TO_WEBSOCKETS[message["type"]]
            await send(message)

        with bound_contextvars(request_id=correlation_id.get()):
            try:
                await self.app(scope, receive, answered)
            except ClientDisconnect:
                # In the middle of its body: there is nobody to answer, and nothing has failed here.
                status = LEFT
            except Exception:
                log.exception("request_failed", method=method, path=path)
                if status:
                    raise
                error = ProblemError(500, "the server failed; its log has the cause under this request_id")
                await problem_response(request, error)(scope, receive, answered)
            finally:
                seconds = time.perf_counter() - began
                # The route's pattern, not the path: every txid would otherwise be a time series of its own.
                route = getattr(scope.get("route"), "path", "none")
                self.metrics.observe(method, route, status, seconds)
                log.info("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1))
