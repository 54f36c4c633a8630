"""What the doctor finds: how bad it is, about what, and what to do about it, in plain words without any secret."""

from dataclasses import dataclass
from enum import Enum
from functools import partial
from urllib.parse import urlsplit

from txwatch.foreign import one_line


class Level(Enum):
    """How bad a finding is. Only `wrong` keeps the system from working."""

    good = "ok"
    note = "note"
    wrong = "wrong"


@dataclass(frozen=True)
class Finding:
    """What was found about one thing, and what to do about it."""

    level: Level
    what: str
    text: str
    remedy: str = ""


def _finding(level: Level, what: str, text: str, remedy: str = "") -> Finding:
    """A finding. Its text may hold what others answered: it is one line, and bounded."""
    return Finding(level, what, one_line(text), remedy)


good, note, wrong = (partial(_finding, level) for level in Level)


def place_of(url: str) -> str:
    """The host and port of an address, which hold no secret; no more than that it is none, if it cannot be read."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "what is no address"
    return f"{parts.hostname or ''}{port}" or "a socket of this machine"


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
