"""Text that others wrote, made fit for one line of a message, a terminal, a table or a page."""

import unicodedata

MAX_SAID = 300
"""Characters that are kept of what another program says of itself or of an error."""
_DIRECTION = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Marks that turn the direction of text, with which a label could make a message read as something else."""


def clean(text: str) -> str:
    """The text for one line, without control characters, line breaks and marks of direction."""
    spaced = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp", "Cs"} else c for c in text)
    return " ".join(spaced.translate(_DIRECTION).split())


def shortened(text: str) -> str:
    """The text, or its beginning if it has more than MAX_SAID characters."""
    return text if len(text) <= MAX_SAID else f"{text[: MAX_SAID - 1]}…"


def one_line(text: str) -> str:
    """What somebody else said, for one line, within MAX_SAID characters."""
    return shortened(clean(text[: 4 * MAX_SAID]))
