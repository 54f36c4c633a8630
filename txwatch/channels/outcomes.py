"""What became of one request to a channel. What is said here of a message, is said of a webhook's event too."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Sent:
    """It arrived, with this number within the chat; 0 where messages have none."""

    message_id: int = 0


@dataclass(frozen=True)
class Failure:
    """It was not sent, or nobody knows. The reason holds no secrets."""

    reason: str


@dataclass(frozen=True)
class NotSent(Failure):
    """It certainly did not arrive, and may be sent later: the channel was away, or asked to wait."""

    retry_after: timedelta | None = None
    moved_to: str | None = None
    """The present id of a Telegram chat."""


class ChannelRefused(Failure):
    """It did not arrive, and no other would: the channel takes no messages until somebody acts there."""


class Gone(Failure):
    """It did not arrive, and no other ever will: the channel says that it has ended."""


class Refused(Failure):
    """The channel will never take this message, but may take others."""


class Unknown(Failure):
    """No answer says whether it arrived, so it is not sent again."""


class Unanswered(Failure):
    """No answer says whether it arrived. It may be sent again: who gets it twice knows it by its key."""


Outcome = Sent | NotSent | ChannelRefused | Gone | Refused | Unknown | Unanswered
