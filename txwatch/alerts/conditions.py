"""What lasts: conditions of the system and of the network. Each is one alert while it stands, and its end is told.

A condition stands from its alert, `system:<name>:<since>` or `network:<name>:<since>`, until its end. The end of one of
the system is an alert of its own, for somebody waits for it; that of the network is written into the message.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from txwatch.alerts.alert import NETWORK_PREFIX, SYSTEM_PREFIX, Alert
from txwatch.alerts.messages import duration
from txwatch.alerts.store import AlertUpdate
from txwatch.detection.kinds import KINDS
from txwatch.detection.reasons import Reason
from txwatch.store.database import Connection, statement

REPEAT_AFTER = timedelta(minutes=15)
SYSTEM = "system"
_SINCE_FORMAT = "%Y%m%dT%H%M%S"
_RECOVERED = ":recovered"
_OVER = "over"


class State(Enum):
    """How a condition was found. Unknown changes nothing: it could not be checked."""

    well = "well"
    wrong = "wrong"
    unknown = "unknown"


@dataclass(frozen=True)
class Condition:
    """One thing that may last. `name` is part of the alert's key; `text` says what it is, or that it ended.

    `kind` is that of its alert: all but `system` are of the network.
    """

    name: str
    state: State
    text: str = ""
    since: datetime | None = None
    kind: str = SYSTEM

    @property
    def prefix(self) -> str:
        return SYSTEM_PREFIX if self.kind == SYSTEM else NETWORK_PREFIX


@dataclass(frozen=True)
class LastAlert:
    """The last alert of a condition, `standing` until its end is told."""

    alert_key: str
    since: datetime
    raised_at: datetime
    standing: bool


def condition_alerts(conditions: Iterable[Condition], raised: Mapping[str, LastAlert], now: datetime) -> list[Alert]:
    """The alerts of these conditions. `raised` holds the last alert of each by name."""
    alerts = []
    for condition in conditions:
        last = raised.get(condition.name)
        again = last is None or not timedelta(0) <= now - last.raised_at < REPEAT_AFTER
        if condition.state is State.wrong and again and not (last and last.standing):
            since = condition.since or now
            key = f"{condition.prefix}{condition.name}:{since.astimezone(UTC).strftime(_SINCE_FORMAT)}"
            alerts.append(_alert(key, condition.kind, condition.text, now))
        if condition.kind == SYSTEM and condition.state is State.well and last and last.standing:
            text = f"{condition.text or f'{condition.name} is over'}, after {duration(now - last.since)}"
            alerts.append(_alert(last.alert_key + _RECOVERED, "recovered", text, now))
    return alerts


def condition_ends(
    conditions: Iterable[Condition], raised: Mapping[str, LastAlert], now: datetime
) -> list[AlertUpdate]:
    """The ends of conditions of the network, as updates of their alerts."""
    return [
        AlertUpdate(last.alert_key, _OVER, f"✅ over after {duration(now - last.since)}: {condition.text}", now)
        for condition in conditions
        if condition.kind != SYSTEM and condition.state is State.well
        if (last := raised.get(condition.name)) is not None and last.standing
    ]


def no_longer_checked(checked: Collection[str], raised: Mapping[str, LastAlert]) -> list[Condition]:
    """The ends of conditions of the system that stand though nothing checks them any more, which no check would end.

    Such as the one of an archive, a chat or a job that is gone. `checked` are the names of those that something checks.
    """
    return [
        Condition(name, State.well, f"{name} is no longer checked")
        for name, last in raised.items()
        if last.standing and last.alert_key.startswith(SYSTEM_PREFIX) and name not in checked
    ]


def read_raised(connection: Connection) -> dict[str, LastAlert]:
    """The last alert of each condition that ever raised one, by the condition's name."""
    rows = connection.execute(statement("alerts", "raised_conditions"), {"recovered": _RECOVERED, "over": _OVER})
    raised = {}
    for key, created_at, ended in rows:
        name, since = key.partition(":")[2].rsplit(":", 1)
        began = datetime.strptime(since, _SINCE_FORMAT).replace(tzinfo=UTC)
        raised[name] = LastAlert(key, began, created_at, standing=not ended)
    return raised


def _alert(key: str, kind: str, text: str, now: datetime) -> Alert:
    # Seen when it was noticed: a condition that began long before is no late alert.
    severity = KINDS[kind].severity
    return Alert(key, [kind], severity, [Reason(kind, text)], late=False, seen_at=now, created_at=now)
