"""Telegram's limits on messages and its HTML, as the real service answers them.

https://core.telegram.org/bots/faq: one message a second to a chat, 20 a minute to a group, 30 a second in all.

https://core.telegram.org/bots/api#html-style; the words of the errors are those of the real service.
"""

import html
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from txwatch.clock import Clock

ALL = "all chats"


@dataclass
class SlidingWindow:
    """At most `most` in any stretch of `length`."""

    most: int
    length: timedelta
    _arrived: deque[datetime] = field(default_factory=deque)

    def wait(self, now: datetime) -> timedelta:
        """How long until one more is allowed; nothing if it is now."""
        while self._arrived and now - self._arrived[0] >= self.length:
            self._arrived.popleft()
        return self.length - (now - self._arrived[0]) if len(self._arrived) >= self.most else timedelta(0)

    def count(self, now: datetime) -> None:
        """Enter one that was let through."""
        self._arrived.append(now)


@dataclass
class FloodControl:
    """Lets messages through within the limits. `exceeded` counts those that it had to turn away, by limit."""

    clock: Clock
    chat_interval: timedelta = timedelta(seconds=1)
    group_per_minute: int = 20
    overall_per_second: int = 30
    exceeded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._windows: dict[str, SlidingWindow] = {
            ALL: SlidingWindow(self.overall_per_second, timedelta(seconds=1)),
        }

    def retry_after(self, chat_id: str) -> int | None:
        """None when the message is let through, which counts it; else whole seconds to wait."""
        now = self.clock()
        windows = {ALL: self._windows[ALL], "chat": self._window(f"chat {chat_id}", 1, self.chat_interval)}
        if chat_id.startswith(("-", "@")):
            windows["group"] = self._window(f"group {chat_id}", self.group_per_minute, timedelta(minutes=1))
        name, wait = max(((name, window.wait(now)) for name, window in windows.items()), key=lambda named: named[1])
        if wait > timedelta(0):
            self.exceeded[name] = self.exceeded.get(name, 0) + 1
            return max(1, ceil(wait.total_seconds()))
        for window in windows.values():
            window.count(now)
        return None

    def _window(self, key: str, most: int, length: timedelta) -> SlidingWindow:
        return self._windows.setdefault(key, SlidingWindow(most, length))


MAX_UNITS = 4096
_TAGS = {
    *("b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "a", "code", "pre", "blockquote", "tg-spoiler"),
    *("span", "tg-emoji"),
}
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);")
_TAG = re.compile(r"<(/?)([^\s>/]*)([^>]*)>")


class BadRequestError(Exception):
    """What Telegram answers with status 400; the text is its description."""


@dataclass(frozen=True)
class Shown:
    """Text without its markup, and the links in it."""

    text: str
    links: tuple[str, ...]


def read_text(text: str, parse_mode: str | None) -> Shown:
    """The text as a phone shows it. Raises BadRequestError."""
    shown = _read_html(text) if (parse_mode or "").upper() == "HTML" else Shown(text, ())
    if not shown.text.strip():
        raise BadRequestError("Bad Request: message text is empty")
    if len(shown.text.encode("utf-16-le")) // 2 > MAX_UNITS:
        raise BadRequestError("Bad Request: message is too long")
    return shown


def _read_html(text: str) -> Shown:
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
    return Shown("".join(shown), tuple(links))


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text)


def _entities(problem: str) -> BadRequestError:
    return BadRequestError(f"Bad Request: can't parse entities: {problem}")
