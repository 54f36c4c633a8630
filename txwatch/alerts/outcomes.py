"""What can become of a request to Telegram. The difference that matters is whether the message may have arrived."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Sent:
    """It arrived, and this is the message's number within the chat."""

    message_id: int


@dataclass(frozen=True)
class NotSent:
    """It certainly did not arrive, and may later: Telegram was away, or asked to wait."""

    reason: str
    retry_after: timedelta | None = None
    moved_to: str | None = None
    """The id under which the chat is to be reached from now on."""


@dataclass(frozen=True)
class ChatRefused:
    """It did not arrive, and no other message would have: the chat takes none until somebody acts there."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """Telegram will never take this message; another one it may."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """It was handed over, and no answer came that says what became of it."""

    reason: str


Outcome = Sent | NotSent | ChatRefused | Refused | Unknown
