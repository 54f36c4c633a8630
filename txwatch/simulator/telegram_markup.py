"""Telegram's HTML, read as Telegram reads it: to the text that a phone shows, or to the error that it answers.

https://core.telegram.org/bots/api#html-style; the words of the errors are those of the real service.
"""

import html
import re
from dataclasses import dataclass

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
