"""Alerts with what became of them: deliveries, later updates, and what people said."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from txwatch.queries.explanations import Explanation, explanations
from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, page_of
from txwatch.queries.rows import dicts, rows_as
from txwatch.store.database import Connection
from txwatch.store.sql import statement


@dataclass(frozen=True)
class AlertSummary:
    """One alert. `alert_key` is the txid, or `system:...`; `states` are those of its deliveries, one for each chat."""

    alert_key: str
    kinds: list[str]
    severity: str
    reasons: list[Explanation]
    late: bool
    seen_at: datetime
    created_at: datetime
    model_version: str | None
    states: list[str]
    sent_at: datetime | None
    useful: int
    noise: int


@dataclass(frozen=True)
class Delivery:
    """How an alert stands with one chat. The chat itself is not told: who gets alerts is nobody else's business."""

    state: str
    attempts: int
    sent_at: datetime | None
    reason: str | None


@dataclass(frozen=True)
class AlertUpdate:
    """What became known of an alert after it was raised."""

    text: str
    created_at: datetime


@dataclass(frozen=True)
class AlertDetail:
    """One alert, each of its deliveries, and what became known later."""

    alert: AlertSummary
    deliveries: list[Delivery]
    updates: list[AlertUpdate]


def list_alerts(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    severity: str | None = None,
    state: str | None = None,
    late: bool | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[AlertSummary]:
    """Alerts about what was seen in [since, until), newest first. `state` is a delivery's. Raises BadCursorError."""
    rows = dicts(
        connection,
        statement(__file__, "list_alerts"),
        {
            "key": None,
            "since": since,
            "until": until,
            "kind": kind,
            "severity": severity,
            "state": state,
            "late": late,
            "limit": limit + 1,
            **bounds(cursor),
        },
    )
    return page_of([_summary(row) for row in rows], limit, lambda row: Position(row.seen_at, row.alert_key))


def read_alert(connection: Connection, key: str) -> AlertDetail | None:
    """The alert with this key, or None."""
    nothing = dict.fromkeys(("since", "until", "kind", "severity", "state", "late"))
    rows = dicts(connection, statement(__file__, "list_alerts"), {"key": key, "limit": 1, **nothing, **bounds(None)})
    if not rows:
        return None
    return AlertDetail(
        alert=_summary(rows[0]),
        deliveries=rows_as(
            connection,
            Delivery,
            "SELECT state, attempts, sent_at, reason FROM alert_deliveries WHERE alert_key = %(key)s ORDER BY chat_id",
            {"key": key},
        ),
        updates=rows_as(
            connection,
            AlertUpdate,
            "SELECT text, created_at FROM alert_updates WHERE alert_key = %(key)s ORDER BY created_at, update_key",
            {"key": key},
        ),
    )


def _summary(row: dict[str, Any]) -> AlertSummary:
    return AlertSummary(**row | {"reasons": explanations(row["reasons"])})
