"""An alert: its kinds, its key and chats, and how alerts are raised from scores.

What a kind means (whether it alerts, how severe it is, what it claims) is said once, in `txwatch.detection.kinds`.

What is known of a chat is kept under its present id, and so is what waits for it. `telegram_chats.moved_to` of a former
id is the present one. What was sent before a move stays where it is, under the former id: nobody can change it there.

Pure, so that the live lane raises in the transaction that lands a batch, the window lane from stored scores, and a
backtest without any database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from txwatch.detection.kinds import KINDS as MEANINGS
from txwatch.detection.kinds import raising
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.store.database import Connection
from txwatch.wire.transaction import Source


class Severity(IntEnum):
    """How much an alert matters. The names are those that the database keeps; low ones arrive without a sound."""

    low = 1
    medium = 2
    high = 3
    critical = 4


@dataclass(frozen=True)
class Kind:
    """One kind. Without `alerts` it is a tag: shown on an alert that another kind raised, no alert by itself."""

    title: str
    symbol: str
    severity: Severity
    alerts: bool = True
    alone_per_hour: int = 30
    """So many an hour go to a chat one by one; what is beyond goes into digests."""
    one_alert_within: timedelta | None = None
    """Findings nearer to each other than this are one event, and one alert."""


_LOOKS: Mapping[str, tuple[str, str, int]] = {
    "fee_accident": ("Fee accident", "🔥", 60),
    "watch_listed": ("Watch-listed address", "👁", 60),
    "whale": ("Whale", "🐋", 40),
    "dormant_round_move": ("Dormant coins move", "🗝", 30),
    "package_fee": ("Very high fee", "🔥", 30),
    "dust_storm": ("Dust storm", "🌫", 6),
    "forest": ("Unusual transaction", "❓", 24),
    "huge_consolidation": ("Huge consolidation", "🧹", 12),
    "coinjoin": ("Coinjoin", "🌀", 30),
    "consolidation": ("Consolidation", "🧹", 30),
    "batch_payout": ("Batch payout", "📤", 30),
    "internal_move": ("Internal move", "🔁", 30),
    "exchange_in": ("Into an exchange", "🏦", 30),
    "exchange_out": ("Out of an exchange", "🏦", 30),
    "exchange_to_exchange": ("Between exchanges", "🏦", 30),
}

KINDS: Mapping[str, Kind] = {
    name: Kind(
        title, symbol, Severity[MEANINGS[name].severity], MEANINGS[name].alerts, alone, MEANINGS[name].one_alert_within
    )
    for name, (title, symbol, alone) in _LOOKS.items()
} | {
    "system": Kind("System", "🛠", Severity.high),
    "recovered": Kind("Recovered", "✅", Severity.low),
}


def kind_named(name: str) -> Kind:
    """The kind's entry. One that the table does not know alerts under its own name: a rule must not fall silent."""
    return KINDS.get(name) or Kind(name.replace("_", " ").capitalize(), "❓", Severity.medium)


def most_severe_first(names: Iterable[str]) -> list[str]:
    """Each name once: those that alert before tags, then by severity, then in the order given."""
    return sorted(dict.fromkeys(names), key=lambda n: (not kind_named(n).alerts, -kind_named(n).severity))


def present_id(connection: Connection, chat_id: str) -> str:
    """The id under which a chat is reached, by any id that it ever had."""
    row = connection.execute("SELECT moved_to FROM telegram_chats WHERE chat_id = %s", [chat_id]).fetchone()
    return chat_id if row is None or row[0] is None else str(row[0])


def former_ids(connection: Connection, chat_id: str) -> list[str]:
    """The ids that a chat had before its present one."""
    rows = connection.execute("SELECT chat_id FROM telegram_chats WHERE moved_to = %s ORDER BY chat_id", [chat_id])
    return [former for (former,) in rows]


def waits_elsewhere(connection: Connection, ours: Iterable[str], now: datetime) -> list[str]:
    """Groups other than ours for which something waits, and of which no move is known: a few, at each time others."""
    rows = connection.execute(
        "SELECT chat_id FROM alert_deliveries LEFT JOIN telegram_chats USING (chat_id)"
        " WHERE state = 'pending' AND moved_to IS NULL AND chat_id <> ALL(%s) AND chat_id LIKE '-%%'"
        " GROUP BY chat_id ORDER BY md5(chat_id || %s) LIMIT 5",
        [list(ours), now.isoformat()],
    )
    return [chat_id for (chat_id,) in rows]


def record_move(connection: Connection, former: str, present: str) -> None:
    """Note, in the caller's transaction, that a chat has another id from now on. It keeps what was set up in it."""
    if former == present:
        return
    connection.execute(
        "INSERT INTO telegram_chats AS chats (chat_id, held_until, quiet_hours, min_severity)"
        " SELECT %(present)s, held_until, quiet_hours, min_severity FROM (VALUES (%(former)s)) AS moved (chat_id)"
        " LEFT JOIN telegram_chats USING (chat_id)"
        " ON CONFLICT (chat_id) DO UPDATE SET moved_to = NULL,"
        " held_until = coalesce(chats.held_until, excluded.held_until),"
        " quiet_hours = coalesce(chats.quiet_hours, excluded.quiet_hours),"
        " min_severity = coalesce(chats.min_severity, excluded.min_severity)",
        {"present": present, "former": former},
    )
    connection.execute(
        "INSERT INTO telegram_chats (chat_id, moved_to) VALUES (%(former)s, %(present)s)"
        " ON CONFLICT (chat_id) DO UPDATE SET moved_to = %(present)s, refused_since = NULL, refusal = NULL",
        {"present": present, "former": former},
    )
    # Who moved twice: all of its former ids lead to the present one at once.
    connection.execute("UPDATE telegram_chats SET moved_to = %s WHERE moved_to = %s", [present, former])


def adopt_what_waits(connection: Connection, chat_id: str, former: Sequence[str]) -> None:
    """Let what waits for a chat under its former ids wait under the present one, once for each alert."""
    for moved in former:
        connection.execute(
            "UPDATE alert_deliveries AS waiting SET chat_id = %(present)s WHERE chat_id = %(former)s"
            " AND (state = 'pending' OR state IN ('uncertain', 'dead') AND listed_in IS NULL) AND NOT EXISTS"
            " (SELECT FROM alert_deliveries WHERE alert_key = waiting.alert_key AND chat_id = %(present)s)",
            {"present": chat_id, "former": moved},
        )
        connection.execute("DELETE FROM alert_deliveries WHERE chat_id = %s AND state = 'pending'", [moved])


LATE_AFTER = timedelta(minutes=15)
"""An alert about something older is no news, and goes to a digest. The window lane takes five minutes and some."""

SYSTEM_PREFIX = "system:"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person is told. `alert_key` is the txid, or `system:...`; times UTC."""

    alert_key: str
    kinds: list[str]
    severity: Severity
    reasons: list[Reason]
    late: bool
    seen_at: datetime
    created_at: datetime
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredTransaction:
    """A score with what decides on its alert besides: how the transaction came, and which model scored it.

    `model_version` is None for what rules found while there was no model.
    """

    score: Score
    source: Source
    model_version: str | None


def raise_alerts(scored: Iterable[ScoredTransaction], now: datetime) -> list[Alert]:
    """The alerts of these transactions, in their order. One that has tags only raises none."""
    return [alert for one in scored if one.score.is_anomaly and (alert := _alert(one, now)) is not None]


def event_kind(alert: Alert) -> str | None:
    """The kind whose findings are one event, if no other kind raised the alert."""
    found = raising(alert.kinds)
    kind = next(iter(found), None)
    return kind if kind is not None and len(found) == 1 and kind_named(kind).one_alert_within is not None else None


def first_of_events(alerts: Iterable[Alert], told: Mapping[str, Sequence[datetime]]) -> list[Alert]:
    """The alerts without those of events that were told of: a dust storm is one alert, not one for each transaction.

    `told` says when transactions were seen that alerted by such a kind. What another kind raised too always stays.
    """
    seen = {kind: list(moments) for kind, moments in told.items()}
    first = []
    for alert in sorted(alerts, key=lambda alert: (alert.seen_at, alert.alert_key)):
        kind = event_kind(alert)
        within = None if kind is None else kind_named(kind).one_alert_within
        if kind is not None and within is not None:
            moments = seen.setdefault(kind, [])
            if any(abs(alert.seen_at - moment) < within for moment in moments):
                continue
            moments.append(alert.seen_at)
        first.append(alert)
    return first


def is_late(source: Source, seen_at: datetime, now: datetime) -> bool:
    """Whether an alert raised now comes too late to go out as live: recovered, bulk-loaded or scored long after."""
    return source != "feed" or now - seen_at > LATE_AFTER


def _alert(scored: ScoredTransaction, now: datetime) -> Alert | None:
    score = scored.score
    kinds = [reason.kind for reason in score.reasons]
    if score.score >= score.threshold:
        # The forest may find no single feature that stands out, and then gives no reason.
        kinds.append("forest")
    severities = [kind_named(kind).severity for kind in raising(kinds)]
    if not severities:
        return None
    return Alert(
        alert_key=score.txid,
        kinds=most_severe_first(kinds),
        severity=max(severities),
        reasons=sorted(score.reasons, key=lambda reason: most_severe_first(kinds).index(reason.kind)),
        late=is_late(scored.source, score.seen_at, now),
        seen_at=score.seen_at,
        created_at=now,
        model_version=scored.model_version,
    )
