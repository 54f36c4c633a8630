"""HTTP to Telegram, with what comes back made safe for the library that reads it.

An answer may be a proxy's page, cut off, or JSON of another form. The library takes refusals as Telegram writes them,
fails on others, and fails on a whole batch of updates for one that it cannot read.
"""

import logging
import os
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from telegram import Update
from telegram.request import HTTPXRequest

MAX_PAUSE_SECONDS = 24 * 60 * 60
"""No pause that Telegram asks for is longer in practice, and nonsense must not silence a chat for good."""
MAX_DESCRIPTION = 300


class _Parameters(msgspec.Struct, omit_defaults=True):
    retry_after: Annotated[int, Meta(ge=0)] | None = None
    migrate_to_chat_id: int | None = None


class _Refusal(msgspec.Struct, omit_defaults=True):
    description: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class Transport(HTTPXRequest):
    """The library's, but each refusal is in Telegram's form. What is in no such form is left to its status alone."""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        """See `BaseRequest.do_request`."""
        status, body = await super().do_request(*args, **kwargs)
        return status, body if status < 300 else _refusal(body)


class Polling(Transport):
    """The same for updates. One that the library cannot read keeps only its number, so that it is left behind."""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        status, body = await super().do_request(*args, **kwargs)
        return status, body if status >= 300 else _readable(body)


def quiet_libraries() -> None:
    """Keep the libraries from warning of their own calls, and from logging the token."""
    # The library's own objects warn when they are made with retry_after as a number, which is how it comes.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    # httpx logs each request with its URL at INFO, and the URL holds the token.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _refusal(body: bytes) -> bytes:
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return b"{}"
    refusal.description = refusal.description[:MAX_DESCRIPTION]
    if refusal.parameters.retry_after is not None:
        refusal.parameters.retry_after = min(refusal.parameters.retry_after, MAX_PAUSE_SECONDS)
    return msgspec.json.encode(refusal)


def _readable(body: bytes) -> bytes:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), list):
        return body
    numbered = [u for u in answer["result"] if isinstance(u, dict) and type(u.get("update_id")) is int]
    updates = [u if _can_be_read(u) else {"update_id": u["update_id"]} for u in numbered]
    return msgspec.json.encode(answer | {"result": updates})


def _can_be_read(update: dict[str, Any]) -> bool:
    try:
        Update.de_json(update, None)
    except Exception:  # whatever it is that the library stumbles over
        return False
    return True
