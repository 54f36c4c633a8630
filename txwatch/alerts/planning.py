"""Plan what a chat gets and when: alone, in a digest or not at all, by severity, pace and quiet hours.

https://core.telegram.org/bots/faq: about one message a second to a chat, 20 a minute to a group, 30 a second in all.
Telegram counts when a request arrives, which is somewhere between its start and its end as seen from here. So gaps are
kept from the end of one request to the start of the next: whatever the network does in between, the limits hold.

- A fresh alert goes out by itself, the most severe first, then the largest, then the oldest.
- At most BURST of its severity or a higher one go out in FLOOD_WINDOW, so that a storm of minor ones holds up nothing
  severe, and of each kind as many an hour as the table of kinds allows. In a storm the rest goes into a digest, at most
  one in DIGEST_EVERY.
- What was raised late, or has become too old while Telegram was away, goes into the digest.
- What may or may not have arrived, or could not be sent, is named in the digest, once, and never sent again.
- What became of an alerted transaction is written into its message, when nothing else is to be sent.
- What a chat missed while it took no messages goes into one digest, with which it is tried again.
- While a chat is muted or has its quiet hours, all but critical alerts wait; what has become too old by then goes into
  the digest.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from txwatch.alerts.alert import LATE_AFTER, Severity, kind_named

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


_FORM = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})(?:\s+(\S+))?")


@dataclass(frozen=True)
class QuietHours:
    """From a time of day to another, which may be past midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `22:00-07:00 Europe/Berlin`; without a zone it is UTC. Raises ValueError, in words for a person."""
        match = _FORM.fullmatch(text.strip())
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
        """When the quiet hours end that hold this moment, UTC; None outside of them."""
        local = now.astimezone(self.zone)
        for day in (local.date() - timedelta(days=1), local.date()):
            # The wall's clock decides, also on the days on which it is put forward or back.
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
"""A digest waits this long for more of its kind: a recovery or a backlog raises many alerts within seconds."""
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
    """In satoshi, what it is about: a fee, or a value that moved. 0 when it is about no amount."""


@dataclass(frozen=True, slots=True)
class SentAlone:
    """An alert that had a message of its own, and when (UTC)."""

    at: datetime
    kind: str
    severity: Severity


@dataclass(frozen=True)
class ChatState:
    """All that the decision depends on. Times UTC, None for never."""

    pending: Sequence[PendingAlert] = ()
    unlisted: Sequence[str] = ()
    """Keys of uncertain and dead alerts that no digest has named."""
    free_at: datetime | None = None
    """Nothing may be sent before: Telegram's limits, its retry_after, or the delay after a failure."""
    held_until: datetime | None = None
    outdated: Sequence[str] = ()
    """Keys of alerts about which more is known than their messages show."""
    sent_alone: Sequence[SentAlone] = ()
    """Those of the last hour."""
    last_digest: datetime | None = None
    refused_since: datetime | None = None
    """It took none of the messages since."""


@dataclass(frozen=True)
class SendAlert:
    """Send this one now."""

    alert_key: str


@dataclass(frozen=True)
class SendDigest:
    """Send one message about these now: alerts, most severe first, and those that may not have arrived."""

    alert_keys: list[str]
    uncertain: list[str]


@dataclass(frozen=True)
class EditAlert:
    """Write what is known by now into this one's message."""

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
    fresh = [alert for alert in pending if not _is_no_news(alert, now)]
    old = [alert for alert in pending if _is_no_news(alert, now)]
    if chat.held_until is not None and now < chat.held_until:
        urgent = [alert for alert in fresh if alert.severity is Severity.critical]
        if urgent:
            return SendAlert(urgent[0].alert_key)
        return Wait(chat.held_until) if chat.pending or chat.unlisted else Idle()
    if chat.refused_since is not None:
        missed = [alert.alert_key for alert in pending]
        return SendDigest(missed, list(chat.unlisted)) if missed or chat.unlisted else Idle()
    first = next(_within_caps(fresh, chat.sent_alone), None)
    if first is not None and _has_room(first.severity, chat.sent_alone, now):
        return SendAlert(first.alert_key)
    digest = fresh + old
    if not digest and not chat.unlisted:
        return Idle()
    due = min((alert.created_at + DIGEST_WAIT for alert in digest), default=now)
    if chat.last_digest is not None:
        due = max(due, chat.last_digest + DIGEST_EVERY)
    if now < due:
        return Wait(due)
    return SendDigest([alert.alert_key for alert in digest], list(chat.unlisted))


def _is_no_news(alert: PendingAlert, now: datetime) -> bool:
    return alert.late or now - alert.seen_at > LATE_AFTER


def _within_caps(fresh: Sequence[PendingAlert], sent_alone: Sequence[SentAlone]) -> Iterator[PendingAlert]:
    """Those of the fresh alerts, in their order, whose kind has not had its share of the hour."""
    sent = Counter(alert.kind for alert in sent_alone)
    return (alert for alert in fresh if sent[alert.kind] < kind_named(alert.kind).alone_per_hour)


def _has_room(severity: Severity, sent_alone: Sequence[SentAlone], now: datetime) -> bool:
    return sum(sent.severity >= severity and now - sent.at < FLOOD_WINDOW for sent in sent_alone) < BURST
