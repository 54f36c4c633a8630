"""ASGI middleware in front of every web server of the system: refuses requests that foreign pages make a browser send.

A browser sends to loopback, and to names of the internal network, whatever any page asks it to. Three headers tell such
requests from those of our own pages, whether a key is set or not:

- Host: a foreign page whose name resolves to this machine (DNS rebinding) sends that name.
- Origin: the page that sends the request. It comes with every POST and every WebSocket.
- Sec-Fetch-Site: the same in the browser's words, also where there is no Origin. A followed link may come from any
  page, because it only shows one: so GET must change nothing, and GraphQL, which can, needs POST.

Programs such as curl and Prometheus send Host alone.

It also bounds what a request may have: heads and bodies, which the servers behind it keep in memory whole.
"""

import logging
import os
import re
from asyncio import AbstractEventLoop, Protocol, TimerHandle, Transport
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS, Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_TARGET_BYTES = 8 * 1024
"""Bytes of path and query; a longer one costs time to parse, match and log."""
MAX_HEADER_BYTES = 32 * 1024
"""Bytes of the names and values of all headers together."""
MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request's line and headers that are kept while they have no end: more than the two above together."""
HEAD_SECONDS = 30.0
"""Seconds until a request's line and headers have come. Each connection that waits takes one of the few open files."""
PART_BYTES, PART_SECONDS = 16 * 1024, 30.0
"""Bytes of a body, or of an answer, that pass within so many seconds: half a kilobyte a second."""

MAX_BODY_BYTES = 16 << 20
"""Bytes of a body; a model that MLflow takes has three million."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""By scheme; a browser leaves them out of the Origin."""


_log_of_websockets = logging.getLogger(f"{__name__}.websockets")
# uvicorn has a line for each that opens, with the whole query. What it is asked an application logs itself.
_log_of_websockets.setLevel(logging.WARNING)


class _Taken(Protocol):
    """Aborts a connection whose client does not take what it is sent: a part must pass in PART_SECONDS.

    uvicorn itself waits for ever, also where it pings: it closes only when all that was sent is taken.
    """

    transport: Transport
    loop: AbstractEventLoop
    _taken: TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_taken()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_taken()

    def _take(self) -> None:
        self._taken = self.loop.call_later(PART_SECONDS, self._end_if_left, self.transport.get_write_buffer_size())

    def _end_if_left(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < PART_BYTES:
            self.transport.abort()
        else:
            self._take()

    def _forget_taken(self) -> None:
        if self._taken is not None:
            self._taken.cancel()


class BoundedWebSocket(_Taken, WebSocketsSansIOProtocol):
    """A WebSocket, whose transport the request for it has set to pause writing at the first byte that is not taken."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _log_of_websockets

    async def send(self, message: Any) -> None:
        await super().send(message)
        # An answer in place of the opening ends the handshake as well: uvicorn would log that there was none.
        self.handshake_complete = self.handshake_complete or self.close_sent


class BoundedH11(_Taken, H11Protocol):
    """HTTP by h11, which ends the connection of a client for which it would wait without an end.

    A head may have MAX_HEAD_BYTES and HEAD_SECONDS; h11's own bound, 16 KiB, is less than we allow. Of a body that is
    sent, and of an answer that is taken, a part must pass in PART_SECONDS. uvicorn itself waits for ever.
    """

    _end: TimerHandle | None = None
    _awaited: object = None
    _came = 0

    def __init__(self, config: Config, *arguments: Any, **named: Any) -> None:
        config.h11_max_incomplete_event_size = MAX_HEAD_BYTES
        super().__init__(config, *arguments, **named)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Whatever was not taken pauses writing, so that it is waited for by the rule, also by a connection that closes.
        transport.set_write_buffer_limits(0)
        self._expect(0)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_end()

    def _expect(self, came: int) -> None:
        """Wait for the end of a head, or for the next part of a body; after its answer for no further part.

        A connection that became a WebSocket has a protocol of its own, which pings.
        """
        awaited = self.conn.their_state
        if awaited not in {h11.IDLE, h11.SEND_BODY} or self.transport.get_protocol() is not self:
            self._forget_end()
            return
        if awaited is h11.SEND_BODY and self.conn.our_state is not h11.DONE:
            self._came += came
        if self._end is None or awaited is not self._awaited or self._came >= PART_BYTES:
            self._forget_end()
            self._awaited, self._came = awaited, 0
            seconds = HEAD_SECONDS if awaited is h11.IDLE else PART_SECONDS
            self._end = self.loop.call_later(seconds, self._end_if_late)

    def _end_if_late(self) -> None:
        self._end = None
        if self.flow.read_paused:  # it is the application that is late
            self._expect(0)
        else:
            self.transport.close()

    def _forget_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


# For every server of this process, also those of libraries: httptools, which uvicorn prefers, has no bound.
HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedH11.__name__}"
WS_PROTOCOLS["auto"] = f"{__name__}:{BoundedWebSocket.__name__}"


class Refusal(NamedTuple):
    """Why a request is refused."""

    status: HTTPStatus
    detail: str
    headers: Mapping[str, str] = {}


def _as_problem(scope: Scope, refusal: Refusal) -> ASGIApp:  # noqa: ARG001 - other answers name the path
    problem = {"title": refusal.status.phrase, "status": refusal.status, "detail": refusal.detail}
    return JSONResponse(problem, refusal.status, refusal.headers, media_type="application/problem+json")


class BodyTooLargeError(Exception):
    """More came than a body may have."""


class Guard:
    """ASGI middleware.

    `hosts` are the names by which other machines reach the server, with `:port` where a proxy has another port than its
    scheme's own. `health` is a path that any Host may ask: a supervisor may know the server by its address alone.
    `answer` makes the answer to a refused HTTP request; a refused WebSocket is closed before it opens.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] = (),
        *,
        health: str,
        max_body_bytes: int = MAX_BODY_BYTES,
        answer: Callable[[Scope, Refusal], ASGIApp] = _as_problem,
    ) -> None:
        self.app, self.health, self.max_body_bytes, self.answer = app, health, max_body_bytes, answer
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        refusal = refused(scope, self.hosts, self.health) or self._too_large(scope)
        if refusal is None:
            await self._pass(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail})
        else:
            await self.answer(scope, refusal)(scope, receive, send)

    def _too_large(self, scope: Scope) -> Refusal | None:
        announced = Headers(scope=scope).get("content-length", "")
        return self._refused_body if announced.isdecimal() and int(announced) > self.max_body_bytes else None

    @property
    def _refused_body(self) -> Refusal:
        detail = f"a body may have {self.max_body_bytes:,} bytes"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"})

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app have the request, until more of its body has come than may be, whatever it announced."""
        came, is_answered = 0, False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self.max_body_bytes:
                raise BodyTooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal is_answered
            # What an app makes of the error, such as status 500, is not the answer.
            if came <= self.max_body_bytes:
                is_answered = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:
            if came <= self.max_body_bytes:
                raise
        if came > self.max_body_bytes:
            if is_answered:
                raise BodyTooLargeError
            await self.answer(scope, self._refused_body)(scope, receive, send)


def refused(scope: Scope, hosts: Collection[str], health: str) -> Refusal | None:
    """Why this HTTP request or WebSocket is refused, or None. `hosts` are in lower case."""
    headers = Headers(scope=scope)
    if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"path and query may have {MAX_TARGET_BYTES:,} bytes")
    if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEADER_BYTES:
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"headers may have {MAX_HEADER_BYTES:,} bytes")
    asked, pages = headers.getlist("host"), headers.getlist("origin")
    if scope["path"] != health and (len(asked) != 1 or not _is_allowed(asked[0], hosts)):
        return Refusal(HTTPStatus.FORBIDDEN, "this Host is neither loopback nor in TXWATCH_ALLOWED_HOSTS")
    if any(not _is_own(page, asked, hosts) for page in pages):
        return Refusal(HTTPStatus.FORBIDDEN, "a page of another origin asks")
    if not (set(headers.getlist("sec-fetch-site")) <= {"same-origin", "none"} or _is_followed_link(scope, headers)):
        return Refusal(HTTPStatus.FORBIDDEN, "a page of another site asks")
    if _is_graphql_by_get(scope, headers):
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GraphQL is asked by POST")
    return None


def _name(authority: str) -> str:
    """The name or address in a Host, "" if there is none."""
    found = _AUTHORITY.fullmatch(authority.lower())
    return found[1].strip("[]") if found else ""


def _is_allowed(host: str, hosts: Collection[str]) -> bool:
    if not (name := _name(host)):
        # As an allowed name in another form has none, such as `*.example`: the two would be the same.
        return False
    try:
        return name == "localhost" or name in hosts or name in map(_name, hosts) or ip_address(name).is_loopback
    except ValueError:
        return False


def _is_own(page: str, asked: list[str], hosts: Collection[str]) -> bool:
    """Whether a page is ours: of the very Host that is asked (another port is another site), or of an allowed name.

    An allowed name is on its scheme's own port or on the port it is allowed with: a proxy may send another Host.
    """
    scheme, _, authority = page.lower().partition("://")
    found = _AUTHORITY.fullmatch(authority)
    if found is None or scheme not in _DEFAULT_PORTS:
        return False
    if [authority] == [host.lower() for host in asked]:
        return True
    name, default = found[1], _DEFAULT_PORTS[scheme]
    own = {name, name.strip("[]"), name + default} if found[2] in {None, default} else {authority}
    return not own.isdisjoint(hosts)


def _is_followed_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link to a page, in a window and not in a frame."""
    return (
        scope["type"] == "http"
        and scope["method"] in {"GET", "HEAD"}
        and headers.getlist("sec-fetch-mode") == ["navigate"]
        and headers.getlist("sec-fetch-dest") == ["document"]
    )


def _is_graphql_by_get(scope: Scope, headers: Headers) -> bool:
    """Whether a GET runs GraphQL. A client that accepts HTML gets the page with the editor, and runs nothing."""
    return (
        scope["type"] == "http"
        and scope["method"] != "POST"
        and scope["path"].endswith("/graphql")
        and "text/html" not in headers.get("accept", "")
        and any(name == "query" for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True))
    )


def _unframed(send: Send) -> Send:
    """Forbid pages of other origins to show ours in a frame, where a visitor would press a button unknowingly."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message).setdefault("x-frame-options", "SAMEORIGIN")
        await send(message)

    return sent


def mlflow_app() -> Any:
    """MLflow's server behind the guard, for `mlflow server --app-name txwatch`."""
    # Turn its own check of names off, which wants them in another form.
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"
    from mlflow.server.fastapi_app import app

    from txwatch.settings import Settings

    return Guard(app, Settings().host_names, health="/health")
