"""Read alerts with their deliveries, and what was found unusual with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import msgspec

from txwatch.detection.reasons import Reason
from txwatch.labels.flows import FlowClass
from txwatch.queries.paging import DEFAULT_LIMIT, Page, read_page, read_rows
from txwatch.queries.private import OF_A_CHAT
from txwatch.store.database import Connection, statement
from txwatch.wire.prices import worth


def stored_reasons(column: object) -> list[Reason]:
    """The reasons of a stored score or alert, in their order. Fields that this program does not know are left out."""
    return msgspec.convert(column, list[Reason])


Flow = Literal["inflow", "outflow", "internal", "between exchanges", "unknown"]
FLOWS: tuple[Flow, ...] = get_args(Flow)
FLOW_WORDS: Mapping[FlowClass, Flow] = {
    "exchange_in": "inflow",
    "exchange_out": "outflow",
    "internal_move": "internal",
    "exchange_to_exchange": "between exchanges",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Anomaly:
    """A transaction with the first score that found it unusual, for all `alike` of its campaign, itself among them.

    Amounts in satoshi, the fee rate in sat/vB.
    """

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    kinds: list[str]
    reasons: list[Reason]
    model_version: str
    lane: str
    scored_at: datetime
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None
    value_usd: float | None
    usd_price: float | None
    """Of a bitcoin, known when it was seen."""
    alike: int


@dataclass(frozen=True)
class WhaleMove:
    """A large value that likely changed hands. Amounts in satoshi, and in USD by the price of a bitcoin then.

    `flow` says between whom, as far as it is known.
    """

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
    reasons: list[Reason]
    moved_usd: float | None
    value_usd: float | None
    usd_price: float | None


@dataclass(frozen=True)
class AnomalyCount:
    """Transactions of one kind that were found unusual, one of each campaign, in the span that begins at `since`."""

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

    Those that joined the campaign of another one are left out.
    A transaction that only the forest found, without a single feature that stands out, has the kind `forest`.
    """
    query = statement("queries", "list_anomalies")
    filters = {"since": since, "until": until, "kind": kind, "min_score": min_score, "min_value": 0}
    return read_page(connection, _anomaly, query, filters, ("seen_at", "txid"), cursor, limit)


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
    query = statement("queries", "list_anomalies")
    filters = {"since": since, "until": until, "kind": "whale", "min_score": 0.0, "min_value": min_moved_sat}
    return read_page(connection, _whale, query, filters, ("seen_at", "txid"), cursor, limit)


def count_anomalies(connection: Connection, start: datetime, end: datetime, span: timedelta) -> list[AnomalyCount]:
    """How many unusual transactions of each kind were seen in each span of [start, end), oldest first."""
    spans = {"start": start, "end": end, "span": span}
    return read_rows(connection, AnomalyCount, statement("queries", "count_anomalies"), spans)


def _anomaly(**row: Any) -> Anomaly:
    reasons = stored_reasons(row["reasons"])
    kinds = list(dict.fromkeys(reason.kind for reason in reasons)) or ["forest"]
    value_usd = worth(row["value_sat"], row["usd_price"])
    found = {**row, "reasons": reasons, "kinds": kinds, "value_usd": value_usd}
    return Anomaly(**{name: found[name] for name in Anomaly.__dataclass_fields__})


def _whale(**row: Any) -> WhaleMove:
    reasons = stored_reasons(row["reasons"])
    moved = next((r.value for r in reasons if r.kind == "whale" and r.value is not None), row["value_sat"])
    senders, receivers = (dict.fromkeys(c["addr"] for c in row[side] if c["addr"]) for side in ("inputs", "outputs"))
    found = {
        **row,
        "moved_sat": int(moved),
        "flow": FLOW_WORDS[row["flow"]],
        "senders": list(senders)[:5],
        "receivers": [address for address in receivers if address not in senders][:5],
        "reasons": reasons,
        "moved_usd": worth(int(moved), row["usd_price"]),
        "value_usd": worth(row["value_sat"], row["usd_price"]),
    }
    return WhaleMove(**{name: found[name] for name in WhaleMove.__dataclass_fields__})


@dataclass(frozen=True)
class AlertSummary:
    """One alert. `alert_key` is the txid, `system:...` or `network:...`; `states` are its deliveries', by chat.

    `value_sat` is the total output, None after retention; `usd_price` of a bitcoin was known when it was seen.
    `alike` counts the transactions of its campaign, 1 without one.
    """

    alert_key: str
    kinds: list[str]
    severity: str
    reasons: list[Reason]
    late: bool
    seen_at: datetime
    created_at: datetime
    model_version: str | None
    states: list[str]
    sent_at: datetime | None
    useful: int
    noise: int
    value_sat: int | None
    value_usd: float | None
    usd_price: float | None
    usd_price_at: datetime | None
    alike: int


@dataclass(frozen=True)
class LiveAlerts:
    """How many alerts there were, and how many of them the forest raised: the budget binds these alone."""

    alerts: int
    of_the_budget: int


@dataclass(frozen=True)
class Delivery:
    """How an alert stands with one chat. The chat is left out: who gets alerts is nobody else's business."""

    state: str
    attempts: int
    sent_at: datetime | None
    reason: str | None


@dataclass(frozen=True)
class ChannelDelivery:
    """How one alert stands with a channel. `reason` says why it is not sent."""

    alert_key: str
    kinds: list[str]
    severity: str
    seen_at: datetime
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
    key: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    severity: str | None = None,
    state: str | None = None,
    late: bool | None = None,
    private: bool = False,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[AlertSummary]:
    """Alerts about what was seen in [since, until), newest first. `state` is a delivery's. Raises BadCursorError.

    Those that name a chat are left out unless they are asked for by `private`.
    """
    query = statement("queries", "list_alerts")
    filters = {"key": key, "kind": kind, "severity": severity, "state": state, "late": late}
    filters |= {"private": private, "of_a_chat": OF_A_CHAT}
    seen = {"since": since, "until": until}
    return read_page(connection, _summary, query, {**filters, **seen}, ("seen_at", "alert_key"), cursor, limit)


def count_live_alerts(connection: Connection, start: datetime, end: datetime) -> LiveAlerts:
    """The alerts raised live about what was seen in [start, end). What was recovered or loaded later is left out."""
    query = (
        "SELECT count(*) AS alerts, count(*) FILTER (WHERE 'forest' = ANY(kinds)) AS of_the_budget FROM alerts"
        " WHERE seen_at >= %(start)s AND seen_at < %(end)s AND NOT late"
    )
    (found,) = read_rows(connection, LiveAlerts, query, {"start": start, "end": end})
    return found


def read_alert(connection: Connection, key: str, *, private: bool = False) -> AlertDetail | None:
    """The alert with this key, or None. One that names a chat is none unless it is asked for by `private`."""
    found = list_alerts(connection, key=key, private=private).items
    if not found:
        return None
    deliveries = (
        "SELECT state, attempts, sent_at, reason FROM alert_deliveries WHERE alert_key = %(key)s ORDER BY channel"
    )
    updates = "SELECT text, created_at FROM alert_updates WHERE alert_key = %(key)s ORDER BY created_at, update_key"
    asked = {"key": key}
    return AlertDetail(
        found[0], read_rows(connection, Delivery, deliveries, asked), read_rows(connection, AlertUpdate, updates, asked)
    )


def channel_deliveries(connection: Connection, channel: str, limit: int) -> list[ChannelDelivery]:
    """The newest alerts that a channel gets or got, the newest first."""
    return read_rows(
        connection,
        ChannelDelivery,
        statement("queries", "channel_deliveries"),
        {"channel": channel, "limit": limit},
    )


def _summary(reasons: object, **row: Any) -> AlertSummary:
    value_usd = worth(row["value_sat"], row["usd_price"])
    return AlertSummary(reasons=stored_reasons(reasons), value_usd=value_usd, **row)
