"""Telegram's limits, and when the next request to a chat may start.

https://core.telegram.org/bots/faq: about one message a second to a chat, 20 a minute to a group, 30 a second in all.
Telegram counts when a request arrives, which is somewhere between its start and its end as seen from here. So gaps are
kept from the end of one request to the start of the next: whatever the network does in between, the limits hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MAX_BACKOFF = timedelta(minutes=5)
MAX_HOLD = timedelta(minutes=15)
"""A chat that takes no messages is asked at least so often: once it does, nobody should wait much longer."""


@dataclass(frozen=True)
class Limits:
    """What Telegram allows, and how much of it goes to answers."""

    chat_interval: timedelta = SECOND
    group_per_minute: int = 20
    overall_per_second: int = 30
    answers_per_minute: int = 10
    """Of these to a chat, so that a member who asks and asks holds up no alert. Not Telegram's."""


def is_group(chat_id: str) -> bool:
    """Whether the limit of groups holds: groups and channels have negative ids or names."""
    return chat_id.startswith(("-", "@"))


def chat_free_at(chat_id: str, ended: Sequence[datetime], limits: Limits) -> datetime | None:
    """When the next request to the chat may start, None for at once. `ended` are ends of requests, newest first."""
    if not ended:
        return None
    free = ended[0] + limits.chat_interval
    if is_group(chat_id) and len(ended) >= limits.group_per_minute:
        free = max(free, ended[limits.group_per_minute - 1] + MINUTE)
    return free


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: 1 s, doubled each time up to five minutes."""
    return min(MAX_BACKOFF, SECOND * (1 << min(failures - 1, 10)))


def hold(failures: int) -> timedelta:
    """The same for a chat that takes no messages: 1 min, doubled each time up to MAX_HOLD."""
    return min(MAX_HOLD, MINUTE * (1 << min(failures - 1, 10)))
