"""Read alerts with what became of them, and what was found unusual with its reasons."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from txwatch.labels.flows import FlowClass
from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, dicts, page_of, rows_as
from txwatch.store.database import Connection, statement


@dataclass(frozen=True)
class Explanation:
    """One reason, in words. A forest's names its feature, the value, and its percentile in the training traffic."""

    kind: str
    text: str
    feature: str | None = None
    value: float | None = None
    percentile: float | None = None


def explanations(stored: Iterable[Mapping[str, Any]]) -> list[Explanation]:
    """The reasons of a stored score or alert, in their order. Fields that this program does not know are left out."""
    return [
        Explanation(
            kind=str(reason.get("kind", "")),
            text=str(reason.get("text", "")),
            feature=reason.get("feature"),
            value=reason.get("value"),
            percentile=reason.get("percentile"),
        )
        for reason in stored
    ]


Flow = Literal["inflow", "outflow", "internal", "between exchanges", "unknown"]
FLOWS: tuple[Flow, ...] = ("inflow", "outflow", "internal", "between exchanges", "unknown")

WORDS: Mapping[FlowClass, Flow] = {
    "exchange_in": "inflow",
    "exchange_out": "outflow",
    "internal_move": "internal",
    "exchange_to_exchange": "between exchanges",
    "unknown": "unknown",
}
"""Of each class of `txwatch.labels.flows`."""


WHALE = "whale"


@dataclass(frozen=True)
class Anomaly:
    """A transaction with the first score that found it unusual. Amounts in satoshi, the fee rate in sat/vB."""

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    kinds: list[str]
    reasons: list[Explanation]
    model_version: str
    lane: str
    scored_at: datetime
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None


@dataclass(frozen=True)
class WhaleMove:
    """A large value that likely changed hands. Amounts in satoshi; `flow` says between whom, as far as it is known."""

    txid: str
    seen_at: datetime
    moved_sat: int
    value_sat: int
    fee_sat: int | None
    input_count: int
    output_count: int
    flow: Flow
    senders: list[str]
    receivers: list[str]
    reasons: list[Explanation]


@dataclass(frozen=True)
class AnomalyCount:
    """Transactions of one kind that were found unusual, in the span that begins at `since`."""

    since: datetime
    kind: str
    count: int


def list_anomalies(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    min_score: float = 0.0,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Anomaly]:
    """Unusual transactions seen in [since, until), newest first; of one kind of reason. Raises BadCursorError.

    A transaction that only the forest found, without a single feature that stands out, has the kind `forest`.
    """
    rows = dicts(
        connection,
        statement("queries", "list_anomalies"),
        {
            "since": since,
            "until": until,
            "kind": kind,
            "min_score": min_score,
            "min_value": 0,
            "limit": limit + 1,
            **bounds(cursor),
        },
    )
    return page_of([_anomaly(row) for row in rows], limit, lambda row: Position(row.seen_at, row.txid))


def list_whales(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    min_moved_sat: int = 0,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[WhaleMove]:
    """Whale movements seen in [since, until) of at least so many satoshi, newest first. Raises BadCursorError."""
    rows = dicts(
        connection,
        statement("queries", "list_anomalies"),
        {
            "since": since,
            "until": until,
            "kind": WHALE,
            "min_score": 0.0,
            "min_value": min_moved_sat,
            "limit": limit + 1,
            **bounds(cursor),
        },
    )
    return page_of([_whale(row) for row in rows], limit, lambda row: Position(row.seen_at, row.txid))


def count_anomalies(connection: Connection, start: datetime, end: datetime, span: timedelta) -> list[AnomalyCount]:
    """How many unusual transactions of each kind were seen in each span of [start, end), oldest first."""
    return rows_as(
        connection, AnomalyCount, statement("queries", "count_anomalies"), {"start": start, "end": end, "span": span}
    )


def _anomaly(row: dict[str, Any]) -> Anomaly:
    reasons = explanations(row["reasons"])
    return Anomaly(
        **{name: row[name] for name in Anomaly.__dataclass_fields__ if name not in {"kinds", "reasons"}},
        kinds=_kinds(reasons),
        reasons=reasons,
    )


def _whale(row: dict[str, Any]) -> WhaleMove:
    reasons = explanations(row["reasons"])
    moved = next((r.value for r in reasons if r.kind == WHALE and r.value is not None), row["value_sat"])
    senders, receivers = ([c["addr"] for c in row[side] if c["addr"]] for side in ("inputs", "outputs"))
    return WhaleMove(
        txid=row["txid"],
        seen_at=row["seen_at"],
        moved_sat=int(moved),
        value_sat=row["value_sat"],
        fee_sat=row["fee_sat"],
        input_count=row["input_count"],
        output_count=row["output_count"],
        flow=WORDS[row["flow"]],
        senders=list(dict.fromkeys(senders))[:5],
        receivers=list(dict.fromkeys(a for a in receivers if a not in set(senders)))[:5],
        reasons=reasons,
    )


def _kinds(reasons: list[Explanation]) -> list[str]:
    return list(dict.fromkeys(reason.kind for reason in reasons)) or ["forest"]


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
        statement("queries", "list_alerts"),
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
    rows = dicts(connection, statement("queries", "list_alerts"), {"key": key, "limit": 1, **nothing, **bounds(None)})
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
