"""What the doctor found, and how an address is named in it: without what may be secret."""

from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit


class Level(Enum):
    """How a thing was found. Only `wrong` keeps the system from working."""

    good = "ok"
    note = "note"
    wrong = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do about it."""

    level: Level
    what: str
    text: str
    remedy: str = ""


def good(what: str, text: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(Level.good, what, text)


def note(what: str, text: str, remedy: str = "") -> Finding:
    """A thing to know, without which the system works."""
    return Finding(Level.note, what, text, remedy)


def wrong(what: str, text: str, remedy: str) -> Finding:
    """A thing that keeps the system from working."""
    return Finding(Level.wrong, what, text, remedy)


def place_of(url: str) -> str:
    """The host and port of an address, without what may be secret in it."""
    parts = urlsplit(url)
    socket_folder = "" if parts.hostname else "a socket of this machine"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}" or socket_folder


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
