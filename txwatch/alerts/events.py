"""An alert as an event for programs: what a webhook posts. The schema is in the API's OpenAPI description."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast
from urllib.parse import quote

import msgspec

from txwatch.alerts.alert import Alert, kind_named
from txwatch.alerts.store import SentMessage
from txwatch.channels.webhook import Event
from txwatch.detection.reasons import Reason
from txwatch.features.batch import TransactionBatch
from txwatch.features.transaction import moved_value
from txwatch.wire.prices import worth
from txwatch.wire.transaction import Transaction

VERSION = 1
"""Of the payload. It is raised when a field changes its meaning or goes; new fields may come without."""
SeverityName = Literal["low", "medium", "high", "critical"]
EventName = Literal["alert.created", "alert.updated", "alert.closed", "channel.test"]


@dataclass(frozen=True)
class EventTransaction:
    """The transaction that an alert is about. Amounts in satoshi, the fee rate in sat/vB; None is unknown."""

    txid: str
    value_sat: int
    """Of all outputs, with the change."""
    moved_sat: int
    """What likely changed hands."""
    moved_usd: float | None
    fee_sat: int | None
    fee_rate: float | None
    vsize: int
    input_count: int
    output_count: int


@dataclass(frozen=True)
class EventAlert:
    """One alert. `kinds` are most severe first. Times UTC; `usd_price` of a bitcoin was known when it was seen."""

    alert_key: str
    """The txid, or `system:...` or `network:...`."""
    title: str
    text: str
    """All of it in words, as people read it in other channels: lines of plain text, the title first."""
    kinds: list[str]
    severity: SeverityName
    reasons: list[Reason]
    late: bool
    """Recovered or loaded later, not live."""
    seen_at: datetime
    created_at: datetime
    model_version: str | None
    usd_price: float | None
    transaction: EventTransaction | None
    """None if it is about none, or after retention."""
    updates: list[str]
    """What became known later and holds, oldest first."""


@dataclass(frozen=True)
class AlertEvent:
    """What is posted. Of one alert `revision` only rises; it is 0 in `alert.created`. A later one replaces all before.

    `alert.closed` says that what holds is the end of it: confirmed, replaced, dropped, or over. A later revision may
    take that back, such as after a chain split. `channel.test` has no alert.
    """

    version: int
    event: EventName
    revision: int
    alert: EventAlert | None


def alert_event(alert: Alert, transaction: Transaction | None, sent: SentMessage | None, text: str) -> Event:
    """The event of a new alert, or of one of which an event was `sent`, with what is to be told since, and in words."""
    name: EventName = "alert.created" if sent is None else "alert.closed" if sent.ended else "alert.updated"
    revision = 0 if sent is None else sent.shown
    told = EventAlert(
        alert_key=alert.alert_key,
        title=", ".join(kind_named(kind).title for kind in alert.kinds),
        text=text,
        kinds=alert.kinds,
        severity=cast(SeverityName, alert.severity.name),
        reasons=alert.reasons,
        late=alert.late,
        seen_at=alert.seen_at,
        created_at=alert.created_at,
        model_version=alert.model_version,
        usd_price=alert.usd_price,
        transaction=None if transaction is None else _transaction(transaction, alert.usd_price),
        updates=[] if sent is None else sent.updates,
    )
    # A header has ASCII alone; most keys are as they are.
    return _event(AlertEvent(VERSION, name, revision, told), f"{quote(alert.alert_key, safe=':')}/{revision}")


def trial_event(now: datetime) -> Event:
    """An event that says only that events arrive."""
    return _event(AlertEvent(VERSION, "channel.test", 0, None), f"test/{now.timestamp():.0f}")


def _event(told: AlertEvent, key: str) -> Event:
    return Event(told.event, key, msgspec.json.encode(told))


def _transaction(transaction: Transaction, usd_price: float | None) -> EventTransaction:
    moved = int(moved_value(TransactionBatch.of([transaction])).likely[0])
    return EventTransaction(
        txid=transaction.txid,
        value_sat=transaction.value_sat,
        moved_sat=moved,
        moved_usd=worth(moved, usd_price),
        fee_sat=transaction.fee_sat,
        fee_rate=transaction.fee_rate,
        vsize=transaction.vsize,
        input_count=transaction.input_count,
        output_count=transaction.output_count,
    )
