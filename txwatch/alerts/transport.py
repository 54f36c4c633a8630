"""HTTP to Telegram, with answers made safe for the library that reads them.

An answer may be a proxy's page, cut off, or JSON of another form. The library fails on refusals that are not in
Telegram's form, and on a whole batch of updates for one that it cannot read.
"""

import asyncio
import json
import logging
import math
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from telegram import Update
from telegram.error import TimedOut
from telegram.request import HTTPXRequest

from txwatch.answers import bounds

MAX_PAUSE_SECONDS = 24 * 60 * 60
"""Telegram asks for no longer pause in practice. A nonsensical one must not silence a chat for good."""
MAX_DESCRIPTION = 300
MAX_BYTES = 32 << 20
"""Bytes of an answer; a hundred updates with all that a message may hold take some megabytes."""
CONNECT_SECONDS = 5.0

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
"""The strings of JSON, so that no bracket in them counts, and its brackets."""


class _Numbered(msgspec.Struct):
    update_id: Annotated[int, msgspec.Meta(ge=1)]


class _Batch(msgspec.Struct):
    result: list[Any]


class Transport(HTTPXRequest):
    """The library's, within MAX_BYTES, and each refusal is in Telegram's form. Of any other only the status is left."""

    def __init__(self, **timeouts: Any) -> None:
        super().__init__(httpx_kwargs={"event_hooks": bounds(MAX_BYTES)}, **timeouts)

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._longest(kwargs)):
                status, body = await super().do_request(*args, **kwargs)
        except TimeoutError as error:
            raise TimedOut("no end of the answer") from error
        return status, body if status < 300 else _refusal(body)

    def _longest(self, given: Mapping[str, Any]) -> float:
        """Seconds for a whole request. The library's are for each part of it: one that trickles would last for ever."""
        read = given.get("read_timeout")
        return 2 * (read if isinstance(read, int | float) else self.read_timeout or 0.0) + CONNECT_SECONDS


class Polling(Transport):
    """The same for updates. One that the library cannot read keeps only its number, so that it is skipped."""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        status, body = await super().do_request(*args, **kwargs)
        return status, body if status >= 300 else _readable(body)


def quiet_libraries() -> None:
    """Keep the libraries from warning of their own calls, and from logging the token."""
    # The library's own objects warn of retry_after as a number, which is how it comes.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    # httpx logs each request with its URL at INFO, and the URL holds the token.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _refusal(body: bytes) -> bytes:
    """The parts of a refusal that are in Telegram's form."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return b"{}"
    refusal: dict[str, Any] = {}
    if isinstance(said.get("description"), str):
        refusal["description"] = said["description"].encode(errors="replace").decode()[:MAX_DESCRIPTION]
    parameters = said.get("parameters")
    if isinstance(parameters, dict):
        pause, moved_to = _pause(parameters.get("retry_after")), parameters.get("migrate_to_chat_id")
        known = {"retry_after": pause, "migrate_to_chat_id": moved_to if type(moved_to) is int else None}
        refusal["parameters"] = {name: value for name, value in known.items() if value is not None}
    return json.dumps(refusal).encode()


def _pause(seconds: object) -> int | None:
    """Whole seconds; None for anything but a length of time."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        return None
    return math.ceil(min(seconds, MAX_PAUSE_SECONDS))


def _readable(body: bytes) -> bytes:
    """A batch of updates that the library can read. Anything else stays as it is."""
    emptied, updates = _take_apart(body, 2)
    try:
        msgspec.json.decode(emptied, type=_Batch)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return body
    kept = [readable for update in updates if (readable := _readable_update(update)) is not None]
    return b'{"ok":true,"result":[' + b",".join(kept) + b"]}"


def _readable_update(update: bytes) -> bytes | None:
    """The update, or its number alone if the library cannot read it; None without a number."""
    emptied, _ = _take_apart(update, 1)
    try:
        numbered = msgspec.json.decode(emptied, type=_Numbered)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    try:
        Update.de_json(msgspec.json.decode(update), None)
    except Exception:  # of the library or the decoder
        return msgspec.json.encode(numbered)
    return update


def _take_apart(text: bytes, depth: int) -> tuple[bytes, list[bytes]]:
    """JSON with 0 in place of each object and list at this depth, and these.

    A decoder gives nothing of a whole that has one thing which it cannot decode, such as half a character or a nesting
    that is too deep.
    """
    level, start, end = 0, 0, 0
    around, inside = list[bytes](), list[bytes]()
    for token in _TOKENS.finditer(text):
        if token[0] in (b"{", b"["):
            if level == depth:
                start = token.start()
                around += [text[end:start], b"0"]
            level += 1
        elif token[0] in (b"}", b"]"):
            level -= 1
            if level == depth:
                end = token.end()
                inside.append(text[start:end])
    return b"".join([*around, text[end:]]), inside
