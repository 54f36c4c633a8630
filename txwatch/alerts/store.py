"""Alerts in Postgres: insert them and their updates, and the feedback of people.

Updates are insert-only like the alerts. The dispatcher writes them into messages that were sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import msgspec

from txwatch.alerts.alert import Alert, ScoredTransaction, former_ids, kind_named, raise_alerts
from txwatch.alerts.campaigns import insert_joined, read_campaigns, tell_campaigns
from txwatch.alerts.matched import read_matched, tell_held_back
from txwatch.clock import window_range, window_start
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.rules.windows import catch_up
from txwatch.store.database import Connection, statement

_reasons = msgspec.json.Decoder(list[Reason])


@dataclass(frozen=True)
class AlertCounts:
    """The alerts of transactions seen in a window, and their deliveries by state."""

    alerts: int = 0
    late: int = 0
    sent: int = 0
    digested: int = 0
    pending: int = 0
    uncertain: int = 0
    dead: int = 0


def insert_alerts(connection: Connection, alerts: Sequence[Alert], chats: Sequence[str]) -> list[str]:
    """Insert the alerts that are not there yet. Returns the new keys.

    Each has a pending delivery for each of these chats and every other channel whose terms it meets. In the caller's
    transaction, so that an alert is durable together with what raised it. An alert with the same key stays as it is,
    without further deliveries. Of a campaign only the first is inserted; the others join it.
    """
    campaigns = read_campaigns(connection, alerts)
    new: list[str] = []
    if first := campaigns.first_of_each(alerts):
        names = [severity.name for severity in Severity]
        rows = to_json([asdict(alert) | {"severity": alert.severity.name} for alert in first])
        given = {"alerts": rows, "chats": list(chats), "severities": names}
        new = [key for (key,) in connection.execute(statement("alerts", "insert_alerts"), given)]
    insert_joined(connection, campaigns)
    return new


def to_json(rows: object) -> str:
    """JSON as Postgres takes it, which has no U+0000."""
    return msgspec.json.encode(rows).decode().replace("\\u0000", "\\ufffd")


def raise_window_alerts(
    connection: Connection, start: datetime, end: datetime, chats: Sequence[str], now: datetime
) -> list[str]:
    """Raise the alerts of the stored scores of transactions seen in [start, end), and of what rules match there.

    A kind that an earlier alert of a transaction does not name becomes an update of that. Returns the keys of new
    alerts.
    """
    span = {"start": start, "end": end, "now": now}
    catch_up(connection, window_range(window_start(start), end))
    with connection.transaction():
        matched = read_matched(connection, start, end, now)
        again = raise_alerts([*_scored(connection, "select_raised_again", span), *matched.again], now)
        insert_updates(connection, [update for alert in again for update in later_kinds(alert)])
        new = matched.beside(_scored(connection, "select_anomalies", span))
        keys = insert_alerts(connection, raise_alerts(new, now), chats)
        tell_campaigns(connection, start, end, now)
        tell_held_back(connection, start, end, now)
        return keys


def _scored(connection: Connection, query: str, span: dict[str, datetime]) -> list[ScoredTransaction]:
    return [
        ScoredTransaction(
            Score(txid, seen_at, score, threshold, True, _reasons.decode(reasons), pattern), source, version
        )
        for txid, seen_at, score, threshold, reasons, pattern, source, version in connection.execute(
            statement("alerts", query), span
        )
    ]


def read_alerts(connection: Connection, keys: Sequence[str]) -> list[Alert]:
    """The alerts with these keys, in the order of the keys."""
    rows = connection.execute(
        "SELECT alert_key, kinds, severity, reasons::text, late, seen_at, created_at, model_version, usd_price"
        " FROM alerts JOIN unnest(%s::text[]) WITH ORDINALITY AS wanted (alert_key, place) USING (alert_key)"
        " ORDER BY place",
        [list(keys)],
    )
    return [
        Alert(
            key,
            kinds,
            Severity[severity],
            _reasons.decode(reasons),
            late,
            seen_at,
            created_at,
            version,
            usd_price=price,
        )
        for key, kinds, severity, reasons, late, seen_at, created_at, version, price in rows
    ]


def count_alerts(connection: Connection, start: datetime, end: datetime) -> dict[datetime, AlertCounts]:
    """The alerts of transactions seen in [start, end), by the start of their window; windows without any are absent."""
    rows = connection.execute(statement("alerts", "count_alerts"), {"start": start, "end": end})
    return {window: AlertCounts(*counts) for window, *counts in rows}


class AlertUpdate(msgspec.Struct, frozen=True):
    """What became known of an alert. The same `update_key` is inserted once."""

    alert_key: str
    update_key: str
    text: str
    created_at: datetime


@dataclass(frozen=True)
class SentMessage:
    """A message about an alert, and the updates that it should show."""

    alert_key: str
    channel: str
    """A former id of a chat, if it was sent before the chat moved."""
    message_id: int
    sent_at: datetime
    updates: list[str]
    shown: int
    """How many updates these are, with those that do not hold any more."""
    ended: bool = False
    """Whether what holds is the end of it: confirmed, replaced, dropped, or over."""


def later_kinds(alert: Alert) -> list[AlertUpdate]:
    """The reasons of an alert that was raised again, as updates of the first one."""
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
    """Insert the updates that are not there yet, in the caller's transaction. Returns how many.

    Updates without an alert are left out, and kinds that the alert names itself.
    """
    rows = to_json(list(updates))
    return connection.execute(statement("alerts", "insert_updates"), {"updates": rows}).rowcount


def read_sent_message(connection: Connection, chat_id: str, alert_key: str) -> SentMessage:
    """The message about an alert in a chat, with its updates that still hold. Raises LookupError without one."""
    chats = [chat_id, *former_ids(connection, chat_id)]
    row = connection.execute(
        statement("alerts", "select_sent_message"), {"chat": chat_id, "chats": chats, "alert_key": alert_key}
    ).fetchone()
    if row is None:
        raise LookupError(f"no message about {alert_key} in chat {chat_id}")
    return SentMessage(alert_key, *row)


Verdict = Literal["useful", "noise"]
BUTTONS: tuple[tuple[str, Verdict], ...] = (("👍 useful", "useful"), ("👎 noise", "noise"))


def person_at_telegram(user_id: int) -> str:
    """By which name a verdict is kept of a user of Telegram, or of a chat whose administrators speak as itself.

    By the number: users change their names. Verdicts of others are kept by `who` of `txwatch.people.changes`.
    """
    return f"telegram:{user_id}"


@dataclass(frozen=True)
class Precision:
    """How many of the judged alerts of a kind and a model version were useful."""

    kind: str
    model_version: str | None
    judged: int
    useful: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.useful / self.judged

    @property
    def found_by(self) -> str:
        """The model, in words."""
        return "rules only" if self.model_version is None else f"model {self.model_version}"


def record_feedback(
    connection: Connection, chat_id: str, message_id: int, user_id: int, verdict: Verdict, now: datetime
) -> str | None:
    """Keep a person's verdict on the alert of a message; a later one replaces it. Returns the alert's key, or None.

    `chat_id` is the id under which it was sent, also if the chat has another one now.
    """
    row = connection.execute(
        "INSERT INTO feedback AS given (alert_key, person, verdict, chat_id, given_at)"
        " SELECT alert_key, %(person)s, %(verdict)s, channel, %(now)s FROM alert_deliveries"
        " WHERE channel = %(chat)s AND message_id = %(message)s AND state = 'sent'"
        " ON CONFLICT (alert_key, person) DO UPDATE SET verdict = excluded.verdict, given_at = excluded.given_at"
        " RETURNING alert_key",
        {
            "chat": chat_id,
            "message": message_id,
            "person": person_at_telegram(user_id),
            "verdict": verdict,
            "now": now,
        },
    ).fetchone()
    return None if row is None else str(row[0])


def record_verdict(connection: Connection, alert_key: str, verdict: Verdict, now: datetime, person: str) -> bool:
    """Keep a verdict that was given elsewhere than below a message; a person's later one replaces it.

    False if there is no such alert.
    """
    given = connection.execute(
        "INSERT INTO feedback AS given (alert_key, person, verdict, chat_id, given_at)"
        " SELECT alert_key, %(person)s, %(verdict)s, 'api', %(now)s FROM alerts WHERE alert_key = %(key)s"
        " ON CONFLICT (alert_key, person) DO UPDATE SET verdict = excluded.verdict, given_at = excluded.given_at",
        {"key": alert_key, "person": person, "verdict": verdict, "now": now},
    )
    return given.rowcount > 0


def read_precision(connection: Connection, since: datetime) -> list[Precision]:
    """The precision by kind and model version, of alerts raised since a moment; the most judged first.

    An alert counts for each of its kinds, and by the majority of its verdicts, a tie as useful.
    """
    rows = connection.execute(statement("alerts", "precision"), {"since": since})
    return [Precision(*row) for row in rows]
