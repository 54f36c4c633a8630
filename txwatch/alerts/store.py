"""`alerts` in Postgres: inserted once by whichever lane comes first, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from txwatch.alerts.kinds import Severity, kind_named
from txwatch.alerts.raising import Alert, ScoredTransaction, event_kind, first_of_events, raise_alerts
from txwatch.alerts.updates import insert_updates, later_kinds
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.store.database import Connection
from txwatch.store.sql import statement

_reasons = msgspec.json.Decoder(list[Reason])


@dataclass(frozen=True)
class AlertCounts:
    """The alerts of transactions seen in a window, and how their deliveries stand."""

    alerts: int = 0
    late: int = 0
    sent: int = 0
    digested: int = 0
    pending: int = 0
    uncertain: int = 0
    dead: int = 0


def insert_alerts(connection: Connection, alerts: Sequence[Alert], chats: Sequence[str]) -> list[str]:
    """Insert the alerts that are not there yet, each with a pending delivery for every chat whose least severity
    it reaches. Returns the new keys.

    In the caller's transaction: an alert is durable together with what raised it. The first one raised for a key
    stays; no delivery is added to an alert that was there before. Of an event of several transactions only the first
    is inserted.
    """
    alerts = first_of_events(alerts, _told(connection, alerts))
    if not alerts:
        return []
    rows = connection.execute(
        statement(__file__, "insert_alerts"),
        {
            "alerts": msgspec.json.encode([_row(alert) for alert in alerts]).decode().replace("\\u0000", "\\ufffd"),
            "chats": list(chats),
            "severities": [severity.name for severity in Severity],
        },
    )
    return [key for (key,) in rows]


def raise_window_alerts(
    connection: Connection, start: datetime, end: datetime, chats: Sequence[str], now: datetime
) -> list[str]:
    """Raise what the stored scores of transactions seen in [start, end) call for. Returns the keys of new alerts.

    A kind that an alert did not name when it was raised is news about it, which its message gets.
    """
    span = {"start": start, "end": end, "now": now}
    with connection.transaction():
        again = raise_alerts(_scored(connection, "select_raised_again", span), now)
        insert_updates(connection, [news for alert in again for news in later_kinds(alert)])
        return insert_alerts(connection, raise_alerts(_scored(connection, "select_anomalies", span), now), chats)


def _scored(connection: Connection, query: str, span: dict[str, datetime]) -> list[ScoredTransaction]:
    return [
        ScoredTransaction(Score(txid, seen_at, score, threshold, True, _reasons.decode(reasons)), source, version)
        for txid, seen_at, score, threshold, reasons, source, version in connection.execute(
            statement(__file__, query), span
        )
    ]


def read_alerts(connection: Connection, keys: Sequence[str]) -> list[Alert]:
    """The alerts with these keys, in the order of the keys."""
    rows = connection.execute(
        "SELECT alert_key, kinds, severity, reasons::text, late, seen_at, created_at, model_version FROM alerts"
        " JOIN unnest(%s::text[]) WITH ORDINALITY AS wanted (alert_key, place) USING (alert_key) ORDER BY place",
        [list(keys)],
    )
    return [Alert(row[0], row[1], Severity[row[2]], _reasons.decode(row[3]), *row[4:]) for row in rows]


def decode_reasons(stored: str) -> list[Reason]:
    """The reasons that a column holds, as JSON text."""
    return _reasons.decode(stored)


def count_alerts(connection: Connection, start: datetime, end: datetime) -> dict[datetime, AlertCounts]:
    """The alerts of transactions seen in [start, end), by the start of their window; windows without any are absent."""
    rows = connection.execute(statement(__file__, "count_alerts"), {"start": start, "end": end})
    return {window: AlertCounts(*counts) for window, *counts in rows}


def _told(connection: Connection, alerts: Sequence[Alert]) -> dict[str, list[datetime]]:
    """When those transactions were seen that alerted by a kind of events, about the time of these alerts."""
    told: dict[str, list[datetime]] = {}
    for kind in {kind for alert in alerts if (kind := event_kind(alert)) is not None}:
        within = kind_named(kind).one_alert_within or timedelta(0)
        seen = [alert.seen_at for alert in alerts]
        rows = connection.execute(
            "SELECT seen_at FROM alerts WHERE seen_at BETWEEN %s AND %s AND kinds @> ARRAY[%s]",
            [min(seen) - within, max(seen) + within, kind],
        )
        told[kind] = [moment for (moment,) in rows]
    return told


def _row(alert: Alert) -> dict[str, object]:
    return {
        "alert_key": alert.alert_key,
        "kinds": alert.kinds,
        "severity": alert.severity.name,
        "reasons": alert.reasons,
        "late": alert.late,
        "seen_at": alert.seen_at,
        "created_at": alert.created_at,
        "model_version": alert.model_version,
    }
