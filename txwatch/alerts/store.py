"""Alerts in Postgres: insert them, their updates (confirmed, replaced), and the feedback of people.

Insert-only like the alerts themselves. The dispatcher writes it into the message that was sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from txwatch.alerts.alert import (
    Alert,
    ScoredTransaction,
    Severity,
    event_kind,
    first_of_events,
    former_ids,
    kind_named,
    raise_alerts,
)
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.store.database import Connection, statement

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
        statement("alerts", "insert_alerts"),
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
            statement("alerts", query), span
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
    rows = connection.execute(statement("alerts", "count_alerts"), {"start": start, "end": end})
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


BURIED = 2
"""Blocks after that of what may have replaced a transaction: it could still have been mined in them."""
MADE_WITHIN = timedelta(days=1)
"""So long before a coin is spent, others that look alike are looked for: to the beginning would take minutes."""


class AlertUpdate(msgspec.Struct, frozen=True):
    """One piece of news about an alert. The same `update_key` is told once."""

    alert_key: str
    update_key: str
    text: str
    created_at: datetime


@dataclass(frozen=True)
class Edition:
    """A message that was sent, and what it should show by now."""

    alert_key: str
    chat_id: str
    """Where the message is: a former id of the chat, if it was sent before the chat moved."""
    message_id: int
    sent_at: datetime
    updates: list[str]
    through: datetime


def later_kinds(alert: Alert) -> list[AlertUpdate]:
    """The kinds and reasons of an alert that was raised again, as news for the one that was raised first."""
    return [
        AlertUpdate(
            alert.alert_key,
            f"kind:{reason.kind}",
            f"{kind_named(reason.kind).symbol} also {kind_named(reason.kind).title.lower()}: {reason.text}",
            alert.created_at,
        )
        for reason in alert.reasons
    ]


def insert_updates(connection: Connection, updates: Iterable[AlertUpdate]) -> int:
    """Insert the news that are not there yet, in the caller's transaction; those without an alert are left out.

    A kind that the alert named from the beginning is no news. Returns how many were new.
    """
    rows = msgspec.json.encode(list(updates)).decode().replace("\\u0000", "\\ufffd")
    return connection.execute(statement("alerts", "insert_updates"), {"updates": rows}).rowcount


def insert_chain_news(connection: Connection, now: datetime) -> int:
    """Insert what the recorded blocks say of alerts, in the caller's transaction. Returns how many news there were.

    A transaction was confirmed; or the block that confirmed it lost a chain split; or another one was confirmed that
    seems to spend its coin. The feed does not say which transaction made a coin, and many look alike. So this is said
    only of a coin of which no other is known, BURIED blocks later, and never for certain.
    """
    confirmed = connection.execute(statement("alerts", "insert_confirmations"), {"now": now}).rowcount
    select = connection.execute(statement("alerts", "select_conflicts"), {"now": now, "buried": BURIED})
    conflicts = [_Conflict(key, txid, height, msgspec.Raw(coin.encode()), at) for key, txid, height, coin, at in select]
    if not conflicts:
        return confirmed
    replaced = connection.execute(
        statement("alerts", "insert_replacements"),
        {
            "now": now,
            "since": min(conflict.seen_at for conflict in conflicts) - MADE_WITHIN,
            "conflicts": msgspec.json.encode(conflicts).decode(),
        },
    ).rowcount
    return confirmed + replaced


class _Conflict(msgspec.Struct):
    """A coin that an alerted and a confirmed transaction seem to spend; `seen_at` is that of the first of them."""

    alert_key: str
    txid: str
    height: int
    coin: msgspec.Raw
    seen_at: datetime


def read_edition(connection: Connection, chat_id: str, alert_key: str) -> Edition:
    """The message about an alert in a chat, with the news about it that hold by now."""
    chats = [chat_id, *former_ids(connection, chat_id)]
    row = connection.execute(
        statement("alerts", "select_edition"), {"chat": chat_id, "chats": chats, "alert_key": alert_key}
    ).fetchone()
    if row is None:
        raise LookupError(f"no message about {alert_key} in chat {chat_id}")
    return Edition(alert_key, *row)


Verdict = Literal["useful", "noise"]
BUTTONS: tuple[tuple[str, Verdict], ...] = (("👍 useful", "useful"), ("👎 noise", "noise"))
API_USER = 0
"""Who gives verdicts by the API; Telegram's users have greater numbers."""


@dataclass(frozen=True)
class Precision:
    """Of the alerts of a kind and a model version that people judged, how many were useful."""

    kind: str
    model_version: str | None
    judged: int
    useful: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.useful / self.judged


def record_feedback(
    connection: Connection, chat_id: str, message_id: int, user_id: int, verdict: Verdict, now: datetime
) -> str | None:
    """Keep a person's verdict on the alert of a message; a later one replaces it. Gives the alert's key.

    `chat_id` is where the message is, also if the chat has another id by now. None when no alert was sent as it.
    """
    row = connection.execute(
        "INSERT INTO feedback AS given (alert_key, user_id, verdict, chat_id, given_at)"
        " SELECT alert_key, %(user)s, %(verdict)s, chat_id, %(now)s FROM alert_deliveries"
        " WHERE chat_id = %(chat)s AND message_id = %(message)s AND state = 'sent'"
        " ON CONFLICT (alert_key, user_id) DO UPDATE SET verdict = excluded.verdict, given_at = excluded.given_at"
        " RETURNING alert_key",
        {"chat": chat_id, "message": message_id, "user": user_id, "verdict": verdict, "now": now},
    ).fetchone()
    return None if row is None else str(row[0])


def record_verdict(connection: Connection, alert_key: str, verdict: Verdict, now: datetime) -> bool:
    """Keep the verdict of whoever holds the API's key; a later one replaces it. False if no alert has the key."""
    given = connection.execute(
        "INSERT INTO feedback AS given (alert_key, user_id, verdict, chat_id, given_at)"
        " SELECT alert_key, %(user)s, %(verdict)s, 'api', %(now)s FROM alerts WHERE alert_key = %(key)s"
        " ON CONFLICT (alert_key, user_id) DO UPDATE SET verdict = excluded.verdict, given_at = excluded.given_at",
        {"key": alert_key, "user": API_USER, "verdict": verdict, "now": now},
    )
    return given.rowcount > 0


def read_precision(connection: Connection, since: datetime) -> list[Precision]:
    """The live precision by kind and model version, of alerts raised since a moment; the most judged first.

    An alert counts for each of its kinds. People who disagree count for the majority, a tie as useful.
    """
    rows = connection.execute(statement("alerts", "precision"), {"since": since})
    return [Precision(*row) for row in rows]
