"""Text for Telegram: built from plain pieces and escaped last, so that no tag or entity can be cut or injected.

Telegram allows 4096 UTF-16 code units in a message, counted after its markup is read
(https://core.telegram.org/bots/api#sendmessage).
"""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_UNITS = 4096
ELLIPSIS = "…"

_JOINER = "\N{ZERO WIDTH JOINER}"
_DIRECTION = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Marks that turn the direction of what follows: in a label they could make a message read as something else."""


@dataclass(frozen=True)
class Piece:
    """Plain text with one style, or a link."""

    text: str
    style: Literal["", "b", "i", "code"] = ""
    link: str | None = None

    def to_html(self) -> str:
        """In Telegram's HTML."""
        escaped = html.escape(self.text)
        if self.link is not None:
            return f'<a href="{html.escape(self.link)}">{escaped}</a>'
        return f"<{self.style}>{escaped}</{self.style}>" if self.style and self.text else escaped


Line = Sequence[Piece]


def units(text: str) -> int:
    """The length as Telegram counts it: UTF-16 code units."""
    return len(text) + sum(character > "\uffff" for character in text)


def clean(text: str) -> str:
    """Text from outside, fit for one line: no control characters, no line breaks, nothing that turns its direction."""
    spaced = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp", "Cs"} else c for c in text)
    return " ".join(spaced.translate(_DIRECTION).split())


def cut(text: str, limit: int) -> str:
    """The text if it has at most `limit` UTF-16 units, else its beginning with an ellipsis, within the limit.

    Never splits a surrogate pair, and never parts a character from what combines with it.
    """
    if units(text) <= limit:
        return text
    if limit < 1:
        return ""
    room, end = limit - units(ELLIPSIS), 0
    for end, character in enumerate(text):  # noqa: B007 - the index is what is looked for
        room -= units(character)
        if room < 0:
            break
    while end > 0 and _is_joined(text, end):
        end -= 1
    return text[:end] + ELLIPSIS


def to_html(lines: Iterable[Line], limit: int = MAX_UNITS) -> str:
    """The lines as one message in Telegram's HTML. The line that no longer fits is cut, and what follows left out."""
    written: list[str] = []
    left = limit
    for number, line in enumerate(lines):
        if number:
            left -= 1
        length = sum(units(piece.text) for piece in line)
        if length <= left:
            written.append("".join(piece.to_html() for piece in line))
            left -= length
            continue
        if left > 0:
            written.append(_cut_line(line, left))
        break
    return "\n".join(written).rstrip("\n")


def _cut_line(line: Line, left: int) -> str:
    parts: list[str] = []
    for piece in line:
        kept = cut(piece.text, left)
        parts.append(Piece(kept, piece.style, piece.link).to_html())
        left -= units(kept)
        if kept != piece.text or left <= 0:
            break
    return "".join(parts)


def _is_joined(text: str, at: int) -> bool:
    """Whether the character at `at` belongs to the one before it: accents, variation and skin tone marks, joiners."""
    character = text[at]
    return (
        unicodedata.combining(character) > 0
        or unicodedata.category(character) in {"Mn", "Me", "Mc"}
        or character == _JOINER
        or text[at - 1] == _JOINER
        or "\N{EMOJI MODIFIER FITZPATRICK TYPE-1-2}" <= character <= "\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
    )
