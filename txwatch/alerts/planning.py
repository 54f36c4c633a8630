"""What to send to a chat next: the pure decision behind the dispatcher, and all of its noise control.

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

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.alerts.kinds import Severity, kind_named
from txwatch.alerts.raising import LATE_AFTER

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
