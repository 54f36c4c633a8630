"""Each request gets an id, a line in the log and its place in the metrics. The outermost layer: it also catches what
nothing else caught, so that a client never sees a traceback."""

import re
import secrets
import time

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from txwatch.api.problems import ProblemError, problem_response
from txwatch.logs import about
from txwatch.metrics.requests import RequestMetrics

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
