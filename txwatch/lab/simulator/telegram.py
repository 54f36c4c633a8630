"""A local Telegram: the Bot API (https://core.telegram.org/bots/api) as far as this product uses it.

It has faults that a test may order, and keeps what it received.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from txwatch.clock import Clock, utc_now
from txwatch.lab.simulator.telegram_rules import BadRequestError, FloodControl, read_text

BOT_ID = 7_000_000_001
MAX_POLL_SECONDS = 50.0
_LOOK_AGAIN_SECONDS = 0.01


class Fault(Enum):
    """What goes wrong with a request that a test chose."""

    server_error = "answers 500 and takes nothing"
    bad_gateway = "answers 502 with a page that is no JSON, and takes nothing"
    too_many = "answers 429 with retry_after, and takes nothing"
    accept_then_silence = "takes the message and never answers"
    accept_then_garbage = "takes the message and answers 200 with something that is no JSON"
    accept_then_nonsense = "takes the message and answers 200 with a result that is no message"
    accept_then_hang_up = "takes the message and closes the connection"
    forbidden = "answers 403: the bot was blocked"
    bad_request = "answers 400: there is no such chat"
    unreadable = "answers 400: the markup of the message cannot be read"
    moved = "answers 400: the group has become a supergroup, from now on"


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as a chat shows it now. Times UTC by the server's clock."""

    message_id: int
    chat_id: str
    text: str
    html: str
    links: tuple[str, ...]
    silent: bool
    previews: bool
    buttons: tuple[tuple[str, str], ...]
    at: datetime
    edited_at: datetime | None = None


class LocalTelegram:
    """The server's state. Without a `token`, any is taken. `on_message` is called with each message, sent or edited.

    `received` holds the messages in order of arrival; an edit changes them in place. `requests` counts all requests to
    send or edit, refused ones too. `refusals` maps chats that refuse messages to a status and a text (a page if it
    begins with `<`), `moved` groups to the ids of the supergroups that they became. `answers_with` is the status and
    body of all answers, as from a proxy. While a `webhook` is set, nobody may poll. `administrators` are users, in all
    groups; who is one in `slow_chats` is not answered while they are in it. Answers to `old_queries` are refused.
    """

    def __init__(
        self,
        clock: Clock = utc_now,
        *,
        token: str | None = None,
        flood_control: FloodControl | None = None,
        retry_after_seconds: int = 3,
        on_message: Callable[[ReceivedMessage], None] = lambda _: None,
    ) -> None:
        self.received: list[ReceivedMessage] = []
        self.requests = 0
        self.flood_control = flood_control or FloodControl(clock)
        self.faults: deque[Fault] = deque()
        self.refusals: dict[str, tuple[int, str]] = {}
        self.moved: dict[str, str] = {}
        self.answers_with: tuple[int, bytes] | None = None
        self.webhook = ""
        self.administrators: set[int] = set()
        self.slow_chats: set[str] = set()
        self.old_queries: set[str] = set()
        self.answered_callbacks: list[tuple[str, str]] = []
        self._clock = clock
        self._token = token
        self._retry_after_seconds = retry_after_seconds
        self._on_message = on_message
        self._updates: list[dict[str, Any]] = []
        self._last_update_id = 0
        self._polls: list[asyncio.Event] = []
        self._silences: list[asyncio.Event] = []
        self.app = Starlette(
            routes=[
                Route("/bot{token}/{method}", self._call, methods=["GET", "POST"]),
                Route("/received", self._show_received),
                Route("/update", self._take_update, methods=["POST"]),
            ]
        )

    @property
    def silences(self) -> int:
        """The count of messages without an answer, whose callers still wait."""
        return len(self._silences)

    def push_update(self, update: Mapping[str, Any]) -> int:
        """Pass a person's message or button press to the bot. Returns its update_id, the next one if it names none."""
        self._last_update_id = int(update.get("update_id", self._last_update_id + 1))
        self._updates.append({**update, "update_id": self._last_update_id})
        for poll in self._polls:
            poll.set()
        return self._last_update_id

    async def _call(self, request: Request) -> Response:
        if self.answers_with is not None:
            status, body = self.answers_with
            return Response(body, status)
        if self._token is not None and request.path_params["token"] != self._token:
            return _error(401, "Unauthorized")
        try:
            return await self._answer(request.path_params["method"].lower(), await _parameters(request))
        except BadRequestError as problem:
            return _error(400, str(problem))

    async def _answer(self, method: str, parameters: dict[str, Any]) -> Response:
        match method:
            case "getme":
                return _result(_BOT)
            case "getchat":
                return _result({"id": parameters.get("chat_id"), "type": "private"})
            case "getchatmember":
                return await self._chat_member(parameters)
            case "sendmessage":
                return await self._send_message(parameters)
            case "editmessagetext":
                return await self._edit_message_text(parameters)
            case "getupdates":
                return await self._get_updates(parameters)
            case "answercallbackquery":
                return self._answer_callback_query(parameters)
            case "getwebhookinfo":
                return _result({"url": self.webhook, "has_custom_certificate": False, "pending_update_count": 0})
            case "deletewebhook":
                self.webhook = ""
                return _result(True)
            case "setmycommands":
                return _result(True)
        return _error(404, "Not Found")

    async def _send_message(self, parameters: dict[str, Any]) -> Response:
        chat_id = str(parameters.get("chat_id", ""))
        if not chat_id:
            raise BadRequestError("Bad Request: chat_id is empty")

        def take() -> dict[str, Any]:
            message = ReceivedMessage(
                message_id=len(self.received) + 1,
                chat_id=chat_id,
                silent=bool(parameters.get("disable_notification", False)),
                at=self._clock(),
                **_content(parameters),
            )
            self.received.append(message)
            self._on_message(message)
            return _as_message(message)

        return await self._deliver(chat_id, take)

    async def _edit_message_text(self, parameters: dict[str, Any]) -> Response:
        chat_id, number = str(parameters.get("chat_id", "")), int(parameters.get("message_id", 0))

        def take() -> dict[str, Any]:
            if not 0 < number <= len(self.received) or self.received[number - 1].chat_id != chat_id:
                raise BadRequestError("Bad Request: message to edit not found")
            before = self.received[number - 1]
            after = replace(before, edited_at=self._clock(), **_content(parameters))
            if (after.html, after.buttons) == (before.html, before.buttons):
                raise BadRequestError(
                    "Bad Request: message is not modified: specified new message content and reply markup are exactly"
                    " the same as a current content and reply markup of the message"
                )
            self.received[number - 1] = after
            self._on_message(after)
            return _as_message(after)

        return await self._deliver(chat_id, take)

    async def _deliver(self, chat_id: str, take: Callable[[], dict[str, Any]]) -> Response:
        """Take a message within the limits, unless a fault was ordered."""
        self.requests += 1
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.too_many:
            return _too_many(self._retry_after_seconds)
        if fault in _REFUSALS:
            return _refused(*_REFUSALS[fault])
        if fault is Fault.moved:
            self.moved[chat_id] = f"-100{chat_id.lstrip('-')}"
        if new_id := self.moved.get(chat_id):
            return _moved(new_id)
        if refusal := self.refusals.get(chat_id):
            return _refused(*refusal)
        if (retry_after := self.flood_control.retry_after(chat_id)) is not None:
            return _too_many(retry_after)
        message = take()
        if fault is Fault.accept_then_silence:
            silence = asyncio.Event()
            self._silences.append(silence)
            await silence.wait()
        if fault is Fault.accept_then_garbage:
            return Response('{"ok": tru', media_type="application/json")
        if fault is Fault.accept_then_nonsense:
            return _result([message])
        if fault is Fault.accept_then_hang_up:
            return _HangUp()
        return _result(message)

    async def _chat_member(self, parameters: dict[str, Any]) -> Response:
        while str(parameters.get("chat_id")) in self.slow_chats:  # noqa: ASYNC110 - other threads change it
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        if new_id := self.moved.get(str(parameters.get("chat_id"))):
            return _moved(new_id)
        user_id = int(parameters["user_id"])
        user = {"id": user_id, "is_bot": False, "first_name": "A"}
        rights = {"is_anonymous": False} if user_id in self.administrators else {}
        return _result({"user": user, "status": "creator" if rights else "member", **rights})

    async def _get_updates(self, parameters: dict[str, Any]) -> Response:
        if self.webhook:
            said = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete it first"
            return _error(409, said)
        offset, limit = int(parameters.get("offset", 0)), int(parameters.get("limit", 100))
        timeout = min(float(parameters.get("timeout", 0)), MAX_POLL_SECONDS)
        poll = asyncio.Event()
        # What was given before the offset is forgotten; an offset that was never given leaves all, as it does there.
        numbers = [update["update_id"] for update in self._updates]
        del self._updates[: numbers.index(offset - 1) + 1 if offset - 1 in numbers else 0]
        if not self._updates and timeout > 0:
            self._polls.append(poll)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await poll.wait()
            self._polls.remove(poll)
        return _result(self._updates[:limit])

    def _answer_callback_query(self, parameters: dict[str, Any]) -> Response:
        query = str(parameters.get("callback_query_id"))
        if query in self.old_queries:
            raise BadRequestError("Bad Request: query is too old and response timeout expired or query ID is invalid")
        self.answered_callbacks.append((query, str(parameters.get("text", ""))))
        return _result(True)

    async def _show_received(self, request: Request) -> Response:
        """The messages after a message_id, for the process that started this server."""
        after = int(request.query_params.get("after", 0))
        return Response(msgspec.json.encode(self.received[after:]), media_type="application/json")

    async def _take_update(self, request: Request) -> Response:
        return _result(self.push_update(await request.json()))


_BOT = {"id": BOT_ID, "is_bot": True, "first_name": "txwatch", "username": "txwatch_bot"}
_REFUSALS = {
    Fault.server_error: (500, "Internal Server Error"),
    Fault.bad_gateway: (502, "<html>502 Bad Gateway</html>"),
    Fault.forbidden: (403, "Forbidden: bot was blocked by the user"),
    Fault.bad_request: (400, "Bad Request: chat not found"),
    Fault.unreadable: (400, "Bad Request: can't parse entities: Unsupported start tag"),
}


class _HangUp(Response):
    """Closes the connection in the middle of an answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - as Starlette calls it
        headers = [(b"content-length", b"1000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ok":', "more_body": False})


async def _parameters(request: Request) -> dict[str, Any]:
    """The parameters from the query, a form or JSON. Objects may be JSON text."""
    body = (await request.body()).decode()
    parameters: dict[str, Any] = dict(request.query_params)
    if request.headers.get("content-type", "").startswith("application/json"):
        parameters |= json.loads(body or "{}")
    else:
        parameters |= parse_qsl(body, keep_blank_values=True)
    for name in ("link_preview_options", "reply_markup", "disable_notification"):
        if isinstance(parameters.get(name), str):
            parameters[name] = json.loads(parameters[name])
    return parameters


def _content(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ReceivedMessage that an edit may change. Raises BadRequestError."""
    html = str(parameters.get("text", ""))
    text, links = read_text(html, parameters.get("parse_mode"))
    rows = (parameters.get("reply_markup") or {}).get("inline_keyboard", [])
    return {
        "text": text,
        "html": html,
        "links": links,
        "previews": not (parameters.get("link_preview_options") or {}).get("is_disabled", False),
        "buttons": tuple((button["text"], button.get("callback_data", "")) for row in rows for button in row),
    }


def _as_message(message: ReceivedMessage) -> dict[str, Any]:
    kind = "supergroup" if message.chat_id.startswith("-") else "private"
    chat: dict[str, Any] = {"id": int(message.chat_id) if message.chat_id.lstrip("-").isdigit() else 0, "type": kind}
    edited = {} if message.edited_at is None else {"edit_date": int(message.edited_at.timestamp())}
    return {
        "message_id": message.message_id,
        "date": int(message.at.timestamp()),
        "chat": chat,
        "from": _BOT,
        "text": message.text,
        **edited,
    }


def _result(value: object) -> Response:
    return JSONResponse({"ok": True, "result": value})


def _refused(status: int, text: str) -> Response:
    return Response(text, status, media_type="text/html") if text.startswith("<") else _error(status, text)


def _error(status: int, description: str, **parameters: int) -> Response:
    more = {"parameters": parameters} if parameters else {}
    return JSONResponse({"ok": False, "error_code": status, "description": description, **more}, status)


def _moved(new_id: str) -> Response:
    return _error(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=int(new_id))


def _too_many(seconds: int) -> Response:
    return _error(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
