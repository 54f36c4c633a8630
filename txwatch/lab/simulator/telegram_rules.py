"""Telegram's limits on messages and its HTML, with the error texts of the real service.

https://core.telegram.org/bots/faq: one message a second to a chat, 20 a minute to a group, 30 a second in all.
https://core.telegram.org/bots/api#html-style
"""

import html
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from txwatch.clock import Clock

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class SlidingWindow:
    """At most `most` messages in any stretch of `length`."""

    def __init__(self, most: int, length: timedelta) -> None:
        self._length = length
        self.passed: deque[datetime] = deque(maxlen=most)
        """When the last messages passed."""

    def wait(self, now: datetime) -> timedelta:
        """How long until one more may pass; not above 0 if it may now."""
        return self.passed[0] + self._length - now if len(self.passed) == self.passed.maxlen else timedelta(0)


@dataclass
class FloodControl:
    """Lets messages through within the limits. `exceeded` counts the refused ones by limit."""

    clock: Clock
    chat_interval: timedelta = SECOND
    group_per_minute: int = 20
    overall_per_second: int = 30
    exceeded: Counter[str] = field(default_factory=Counter)
    _windows: dict[str, SlidingWindow] = field(default_factory=dict)

    def retry_after(self, chat_id: str) -> int | None:
        """None when the message is let through, and counted; else whole seconds to wait."""
        now = self.clock()
        limits = [
            ("all chats", "all chats", self.overall_per_second, SECOND),
            ("chat", f"chat {chat_id}", 1, self.chat_interval),
            ("group", f"group {chat_id}", self.group_per_minute, MINUTE),
        ]
        applying = limits if chat_id.startswith(("-", "@")) else limits[:2]
        windows = {
            name: self._windows.setdefault(key, SlidingWindow(most, length)) for name, key, most, length in applying
        }
        name, wait = max(((name, window.wait(now)) for name, window in windows.items()), key=lambda named: named[1])
        if wait > timedelta(0):
            self.exceeded[name] += 1
            return max(1, ceil(wait.total_seconds()))
        for window in windows.values():
            window.passed.append(now)
        return None


MAX_UTF16_UNITS = 4096
_TAGS = {
    *("b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "a", "code", "pre", "blockquote", "tg-spoiler"),
    *("span", "tg-emoji"),
}
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);")
_TAG = re.compile(r"<(/?)([^\s>/]*)([^>]*)>")


class BadRequestError(Exception):
    """A request that Telegram answers with status 400; the text is the description."""


def read_text(text: str, parse_mode: str | None) -> tuple[str, tuple[str, ...]]:
    """The text without its markup, as a phone shows it, and the links in it. Raises BadRequestError."""
    shown, links = _read_html(text) if (parse_mode or "").upper() == "HTML" else (text, ())
    if not shown.strip():
        raise BadRequestError("Bad Request: message text is empty")
    if len(shown.encode("utf-16-le")) // 2 > MAX_UTF16_UNITS:
        raise BadRequestError("Bad Request: message is too long")
    return shown, links


def _read_html(text: str) -> tuple[str, tuple[str, ...]]:
    shown: list[str] = []
    links: list[str] = []
    open_tags: list[str] = []
    at = 0
    while (start := text.find("<", at)) >= 0:
        shown.append(_unescaped(text[at:start]))
        offset = len(text[:start].encode())
        match = _TAG.match(text, start)
        if match is None:
            raise _entities(f"Unclosed start tag at byte offset {offset}")
        closing, name, attributes = match.group(1), match.group(2).lower(), match.group(3)
        if name not in _TAGS:
            raise _entities(f'Unsupported {"end" if closing else "start"} tag "{name}" at byte offset {offset}')
        if not closing:
            open_tags.append(name)
            if name == "a" and (link := re.search(r'href="([^"]*)"', attributes)):
                links.append(_unescaped(link.group(1)))
        elif not open_tags:
            raise _entities(f"Unexpected end tag at byte offset {offset}")
        elif (expected := open_tags.pop()) != name:
            raise _entities(f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{name}>"')
        at = match.end()
    shown.append(_unescaped(text[at:]))
    if open_tags:
        raise _entities(f'Can\'t find end tag corresponding to start tag "{open_tags[-1]}"')
    return "".join(shown), tuple(links)


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text)


def _entities(problem: str) -> BadRequestError:
    return BadRequestError(f"Bad Request: can't parse entities: {problem}")
