"""Alerts about the system itself, on the same path as all others: one when something goes wrong, one when it is over.

Belongs here: the pure decision. What is looked at is in `health.py`. A condition that stands is alerted once; one that
comes and goes is alerted at most once in REPEAT_AFTER.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from txwatch.alerts.kinds import KINDS
from txwatch.alerts.raising import SYSTEM_PREFIX, Alert
from txwatch.detection.reasons import Reason
from txwatch.store.database import Connection

REPEAT_AFTER = timedelta(minutes=15)
_SINCE_FORMAT = "%Y%m%dT%H%M%S"
_RECOVERED = ":recovered"


class State(Enum):
    """How a condition was found. Unknown changes nothing: what could not be looked at is neither wrong nor well."""

    well = "well"
    wrong = "wrong"
    unknown = "unknown"


@dataclass(frozen=True)
class Condition:
    """One thing that can go wrong. `name` is part of the alert's key; `text` says what is wrong, or that it is over."""

    name: str
    state: State
    text: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Raised:
    """The last alert of a condition. `standing` until its recovery was told."""

    alert_key: str
    since: datetime
    raised_at: datetime
    standing: bool


def system_alerts(conditions: Iterable[Condition], raised: Mapping[str, Raised], now: datetime) -> list[Alert]:
    """What to tell of these conditions. `raised` holds the last alert of each by name."""
    alerts = []
    for condition in conditions:
        last = raised.get(condition.name)
        if condition.state is State.wrong and not (last and (last.standing or now - last.raised_at < REPEAT_AFTER)):
            since = condition.since or now
            key = f"{SYSTEM_PREFIX}{condition.name}:{since.astimezone(UTC).strftime(_SINCE_FORMAT)}"
            alerts.append(_alert(key, "system", condition.text, now))
        if condition.state is State.well and last and last.standing:
            text = f"{condition.text or f'{condition.name} is over'}, after {_words(now - last.since)}"
            alerts.append(_alert(last.alert_key + _RECOVERED, "recovered", text, now))
    return alerts


def read_raised(connection: Connection) -> dict[str, Raised]:
    """The last alert of each condition that ever raised one, by the condition's name."""
    rows = connection.execute(
        "SELECT alert_key, created_at, EXISTS (SELECT 1 FROM alerts AS later WHERE later.alert_key = a.alert_key || %s)"
        " FROM alerts AS a WHERE alert_key LIKE 'system:%%' AND alert_key NOT LIKE '%%:recovered' ORDER BY created_at",
        [_RECOVERED],
    )
    raised = {}
    for key, created_at, recovered in rows:
        name, since = key.removeprefix(SYSTEM_PREFIX).rsplit(":", 1)
        began = datetime.strptime(since, _SINCE_FORMAT).replace(tzinfo=UTC)
        raised[name] = Raised(key, began, created_at, standing=not recovered)
    return raised


def _alert(key: str, kind: str, text: str, now: datetime) -> Alert:
    # Seen when it was noticed: a condition that began long before is news all the same.
    return Alert(key, [kind], KINDS[kind].severity, [Reason(kind, text)], late=False, seen_at=now, created_at=now)


def _words(length: timedelta) -> str:
    minutes = length.total_seconds() / 60
    if minutes < 2:
        return f"{length.total_seconds():.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
