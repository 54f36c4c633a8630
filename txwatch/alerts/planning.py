"""Plan what a chat gets and when: alone, in a digest or not at all, by severity, pace and quiet hours.

https://core.telegram.org/bots/faq: about one message a second to a chat, 20 a minute to a group, 30 a second in all.
Telegram counts when a request arrives, which is between its start and its end as seen from here. So gaps are kept from
the end of one request to the start of the next: the limits hold whatever the network does in between.

- A fresh alert goes out alone: the most severe first, then the largest, then the oldest.
- At most BURST of its severity or a higher one go out in FLOOD_WINDOW, so that a storm of minor ones holds up nothing
  severe, and of each kind `alone_per_hour`. The rest goes into a digest, at most one in DIGEST_EVERY.
- An alert that was raised late, or became too old while Telegram was away, goes into the digest.
- An alert that may not have arrived, or could not be sent, is named in the digest once, and never sent again.
- Updates of an alert are written into its message when nothing else is to be sent.
- What a chat missed while it took no messages goes into one digest, with which it is tried again.
- While a chat is muted or has its quiet hours, all but critical alerts wait.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from txwatch.alerts.alert import LATE_AFTER, kind_named
from txwatch.detection.kinds import Severity

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MAX_BACKOFF = timedelta(minutes=5)
MAX_HOLD = timedelta(minutes=15)
"""The longest wait before a chat that takes no messages is tried again."""


@dataclass(frozen=True)
class Limits:
    """What Telegram allows, and how much of that answers may take."""

    chat_interval: timedelta = SECOND
    group_per_minute: int = 20
    overall_per_second: int = 30
    answers_per_minute: int = 10
    """To a chat, so that a member who asks again and again holds up no alert. Not Telegram's limit."""


def chat_free_at(chat_id: str, ended: Sequence[datetime], limits: Limits) -> datetime | None:
    """When the next request to the chat may start, None for at once. `ended` are ends of requests, newest first."""
    if not ended:
        return None
    free = ended[0] + limits.chat_interval
    # Groups and channels have negative ids or names.
    if chat_id.startswith(("-", "@")) and len(ended) >= limits.group_per_minute:
        free = max(free, ended[limits.group_per_minute - 1] + MINUTE)
    return free


def backoff(failures: int, first: timedelta = SECOND, longest: timedelta = MAX_BACKOFF) -> timedelta:
    """How long to wait after so many failures in a row: doubled each time."""
    return min(longest, first * (1 << min(failures - 1, 10)))


_QUIET_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})(?:\s+(\S+))?")


@dataclass(frozen=True)
class QuietHours:
    """From a time of day to another, which may be on the next day."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `22:00-07:00 Europe/Berlin`; UTC without a zone. Raises ValueError, whose text is for a person."""
        match = _QUIET_HOURS.fullmatch(text.strip())
        if match is None:
            raise ValueError("quiet hours look like 22:00-07:00 Europe/Berlin")
        hours = [int(part) for part in match.groups()[:4]]
        try:
            begin, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        except ValueError:
            raise ValueError("a time of day lies between 00:00 and 23:59") from None
        if begin == end:
            raise ValueError("quiet hours that last the whole day would keep everything back")
        try:
            return cls(begin, end, ZoneInfo(match.group(5) or "UTC"))
        except (OSError, ValueError, KeyError):
            raise ValueError(f"no time zone named {match.group(5)}; one is Europe/Berlin") from None

    def until(self, now: datetime) -> datetime | None:
        """When the quiet hours that contain this moment end, UTC; None outside of them."""
        local = now.astimezone(self.zone)
        for day in (local.date() - timedelta(days=1), local.date()):
            # Local time decides, also on days on which clocks change.
            begin = datetime.combine(day, self.begin, self.zone)
            last = day if self.begin < self.end else day + timedelta(days=1)
            end = datetime.combine(last, self.end, self.zone)
            if begin.astimezone(UTC) <= now < end.astimezone(UTC):
                return end.astimezone(UTC)
        return None

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.zone.key}"


BURST = 12
FLOOD_WINDOW = timedelta(minutes=5)
DIGEST_WAIT = timedelta(seconds=20)
"""From an alert to its digest: a recovery or a backlog raises many alerts within seconds."""
DIGEST_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PendingAlert:
    """An alert that waits for a chat. Times UTC."""

    alert_key: str
    kind: str
    severity: Severity
    late: bool
    seen_at: datetime
    created_at: datetime
    amount: float = 0.0
    """Satoshi: a fee, or a value that moved. 0 for none."""


@dataclass(frozen=True, slots=True)
class SentAlone:
    """An alert that had a message of its own, and when (UTC)."""

    at: datetime
    kind: str
    severity: Severity


@dataclass(frozen=True)
class ChatState:
    """All that the next step depends on. Times UTC, None for never."""

    pending: Sequence[PendingAlert] = ()
    unlisted: Sequence[str] = ()
    """Keys of uncertain and dead alerts that no digest has named."""
    free_at: datetime | None = None
    """Nothing may be sent before: Telegram's limits, its retry_after, or the delay after a failure."""
    held_until: datetime | None = None
    outdated: Sequence[str] = ()
    """Keys of alerts with updates that their messages do not show."""
    sent_alone: Sequence[SentAlone] = ()
    """Those of the last hour."""
    last_digest: datetime | None = None
    refused_since: datetime | None = None
    """Since then it took no message."""


@dataclass(frozen=True)
class SendAlert:
    """Send this one now."""

    alert_key: str


@dataclass(frozen=True)
class SendDigest:
    """Send one message now: about alerts, most severe first, and about those that may not have arrived."""

    alert_keys: list[str]
    uncertain: list[str]


@dataclass(frozen=True)
class EditAlert:
    """Write the updates of this one into its message."""

    alert_key: str


@dataclass(frozen=True)
class Wait:
    """Nothing can be sent before this moment."""

    until: datetime


@dataclass(frozen=True)
class Idle:
    """Nothing waits."""


Request = SendAlert | SendDigest | EditAlert
Step = Request | Wait | Idle


def next_step(chat: ChatState, now: datetime) -> Step:
    """What to do for a chat now."""
    step = _unpaced(chat, now)
    if isinstance(step, Wait | Idle) and chat.outdated:
        step = EditAlert(chat.outdated[0])
    if isinstance(step, Request) and chat.free_at is not None and now < chat.free_at:
        return Wait(chat.free_at)
    return step


def _unpaced(chat: ChatState, now: datetime) -> Step:
    pending = sorted(chat.pending, key=lambda alert: (-alert.severity, -alert.amount, alert.seen_at))
    fresh = [alert for alert in pending if not _is_old(alert, now)]
    old = [alert for alert in pending if _is_old(alert, now)]
    if chat.held_until is not None and now < chat.held_until:
        urgent = [alert for alert in fresh if alert.severity is Severity.critical]
        if urgent:
            return SendAlert(urgent[0].alert_key)
        return Wait(chat.held_until) if chat.pending or chat.unlisted else Idle()
    if chat.refused_since is not None:
        missed = [alert.alert_key for alert in pending]
        return SendDigest(missed, list(chat.unlisted)) if missed or chat.unlisted else Idle()
    sent = Counter(alert.kind for alert in chat.sent_alone)
    first = next((alert for alert in fresh if sent[alert.kind] < kind_named(alert.kind).alone_per_hour), None)
    recent = [alert.severity for alert in chat.sent_alone if now - alert.at < FLOOD_WINDOW]
    if first is not None and sum(severity >= first.severity for severity in recent) < BURST:
        return SendAlert(first.alert_key)
    digest = fresh + old
    if not digest and not chat.unlisted:
        return Idle()
    # One of the future was raised while the clock was ahead, and has waited since.
    due = min((alert.created_at + DIGEST_WAIT for alert in digest if alert.created_at - now <= MINUTE), default=now)
    if chat.last_digest is not None:
        due = max(due, chat.last_digest + DIGEST_EVERY)
    if now < due:
        return Wait(due)
    return SendDigest([alert.alert_key for alert in digest], list(chat.unlisted))


def _is_old(alert: PendingAlert, now: datetime) -> bool:
    return kind_named(alert.kind).is_news and (alert.late or now - alert.seen_at > LATE_AFTER)
