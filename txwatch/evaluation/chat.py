"""A chat without a network: what would be sent to it and when, by the same decisions as the real one's."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from txwatch.alerts.pacing import Limits, chat_free_at
from txwatch.alerts.planning import (
    ChatState,
    EditAlert,
    Idle,
    PendingAlert,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    next_step,
)
from txwatch.alerts.raising import Alert

REQUEST = timedelta(milliseconds=100)
"""What a request to Telegram takes."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sent:
    """How an alert reached the chat, and when (UTC)."""

    how: Literal["alone", "digest"]
    at: datetime


@dataclass
class PlannedChat:
    """Takes alerts in order of time. `sent` says of each, by key, how it went out; `messages` counts what was sent."""

    chat_id: str = "1"
    limits: Limits = field(default_factory=Limits)
    sent: dict[str, Sent] = field(default_factory=dict)
    messages: int = 0
    _pending: dict[str, PendingAlert] = field(default_factory=dict)
    _alone: deque[SentAlone] = field(default_factory=deque)
    _requests: deque[datetime] = field(default_factory=lambda: deque(maxlen=300))
    _last_digest: datetime | None = None
    _now: datetime | None = None

    def take(self, alerts: Iterable[Alert]) -> None:
        """Take alerts that were raised at one moment; what was due before goes out first."""
        for alert in alerts:
            self.until(alert.created_at)
            self._pending[alert.alert_key] = _pending(alert)

    def until(self, end: datetime) -> None:
        """Let time pass, and everything go out that is due until then."""
        now = self._now or end
        while now <= end:
            while self._alone and now - self._alone[0].at > _HOUR:
                self._alone.popleft()
            match next_step(self._state(), now):
                case SendAlert(key):
                    now = self._send([key], "alone", now)
                case SendDigest(keys, _):
                    now = self._send(keys, "digest", now)
                case Wait(until):
                    now = until
                case Idle() | EditAlert():
                    break
        self._now = max(now, end) if self._pending else end

    def _send(self, keys: list[str], how: Literal["alone", "digest"], now: datetime) -> datetime:
        arrived = now + REQUEST
        self.messages += 1
        self._requests.appendleft(arrived)
        for key in keys:
            alert = self._pending.pop(key)
            self.sent[key] = Sent(how, arrived)
            if how == "alone":
                self._alone.append(SentAlone(arrived, alert.kind, alert.severity))
        if how == "digest":
            self._last_digest = arrived
        return arrived

    def _state(self) -> ChatState:
        return ChatState(
            pending=list(self._pending.values()),
            free_at=chat_free_at(self.chat_id, list(self._requests), self.limits),
            sent_alone=list(self._alone),
            last_digest=self._last_digest,
        )


def _pending(alert: Alert) -> PendingAlert:
    first = alert.reasons[0] if alert.reasons else None
    amount = first.value if first is not None and (first.feature or "").endswith("_sat") else None
    return PendingAlert(
        alert.alert_key, alert.kinds[0], alert.severity, alert.late, alert.seen_at, alert.created_at, amount or 0.0
    )
