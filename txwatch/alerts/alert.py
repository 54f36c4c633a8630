"""Alerts: their kinds, their chats, and how they are raised from scores, also without a database.

What a kind means (whether it alerts, how severe it is, what it claims) is in `txwatch.detection.kinds`.

A group's id changes when Telegram makes it a supergroup; `channels.moved_to` of a former id is the present one.
Settings of a chat and deliveries that wait are kept under its present id. Deliveries that were sent before a move stay
under the former id, where their messages are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from txwatch.detection.kinds import KINDS, RULE_PREFIX, Kind, Severity, raising
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.rules.matches import Matched
from txwatch.store.database import Connection, statement
from txwatch.wire.transaction import Origin


def kind_named(name: str) -> Kind:
    """The kind's entry. That of a user's rule has the rule's name; how severe it is, each version of the rule says.

    An unknown kind alerts under its own name, so that no detector falls silent.
    """
    if name.startswith(RULE_PREFIX):
        return Kind(name, f"Rule {name.removeprefix(RULE_PREFIX)}", "📏", Severity.medium, "")
    return KINDS.get(name) or Kind(name, name.replace("_", " ").capitalize(), "❓", Severity.medium, "")


def most_severe_first(names: Iterable[str], severities: Mapping[str, Severity] = MappingProxyType({})) -> list[str]:
    """Each name once: those that alert before tags, then by severity, then in the order given.

    `severities` are of kinds whose entries do not say how severe they are.
    """

    def place(name: str) -> tuple[bool, int]:
        return not kind_named(name).alerts, -severities.get(name, kind_named(name).severity)

    return sorted(dict.fromkeys(names), key=place)


def present_id(connection: Connection, chat_id: str) -> str:
    """The present id of a chat, by any id that it ever had."""
    row = connection.execute("SELECT moved_to FROM channels WHERE channel = %s", [chat_id]).fetchone()
    return chat_id if row is None or row[0] is None else str(row[0])


def former_ids(connection: Connection, chat_id: str) -> list[str]:
    """The ids that a chat had before its present one."""
    rows = connection.execute("SELECT channel FROM channels WHERE moved_to = %s ORDER BY channel", [chat_id])
    return [former for (former,) in rows]


def groups_with_pending(connection: Connection, ours: Iterable[str], now: datetime) -> list[str]:
    """Up to five other groups with pending deliveries and no known move; others each time."""
    rows = connection.execute(
        "SELECT channel FROM alert_deliveries LEFT JOIN channels USING (channel)"
        " WHERE state = 'pending' AND moved_to IS NULL AND channel <> ALL(%s) AND channel LIKE '-%%'"
        " GROUP BY channel ORDER BY md5(channel || %s) LIMIT 5",
        [list(ours), now.isoformat()],
    )
    return [chat_id for (chat_id,) in rows]


def record_move(connection: Connection, former: str, present: str) -> None:
    """Record, in the caller's transaction, that a chat has a new id. Its settings are copied to that."""
    if former == present:
        return
    connection.execute(statement("alerts", "copy_terms"), {"present": present, "former": former})
    connection.execute(
        "INSERT INTO channels (channel, moved_to) VALUES (%(former)s, %(present)s)"
        " ON CONFLICT (channel) DO UPDATE SET moved_to = %(present)s, refused_since = NULL, refusal = NULL",
        {"present": present, "former": former},
    )
    # After a second move all former ids lead to the present one.
    connection.execute("UPDATE channels SET moved_to = %s WHERE moved_to = %s", [present, former])


def adopt_deliveries(connection: Connection, chat_id: str, former_chat_ids: Sequence[str]) -> None:
    """Move what waits for a chat from its former ids to the present one, once for each alert."""
    for former in former_chat_ids:
        connection.execute(
            "UPDATE alert_deliveries AS waiting SET channel = %(present)s WHERE channel = %(former)s"
            " AND (state = 'pending' OR state IN ('uncertain', 'dead') AND listed_in IS NULL) AND NOT EXISTS"
            " (SELECT FROM alert_deliveries WHERE alert_key = waiting.alert_key AND channel = %(present)s)",
            {"present": chat_id, "former": former},
        )
        connection.execute("DELETE FROM alert_deliveries WHERE channel = %s AND state = 'pending'", [former])


LATE_AFTER = timedelta(minutes=15)
"""An alert about something older goes into a digest. The window lane takes over five minutes."""
SYSTEM_PREFIX, NETWORK_PREFIX = "system:", "network:"


def is_of_transaction(alert_key: str) -> bool:
    """Whether an alert is about a transaction, and its key a txid: not about the system or the network."""
    return ":" not in alert_key


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `alert_key` is the txid, or `system:...` or `network:...`; times UTC.

    `usd_price` is that of a bitcoin, known when the transaction was seen. The database adds it to what is inserted.
    """

    alert_key: str
    kinds: list[str]
    severity: Severity
    reasons: list[Reason]
    late: bool
    seen_at: datetime
    created_at: datetime
    model_version: str | None = None
    usd_price: float | None = None
    event: str | None = None
    """By which alerts of one campaign are known (`txwatch.alerts.campaigns`); None if it is of none."""
    alike_within: timedelta | None = None
    """How near to each other alerts of its event are one."""
    channels: tuple[str, ...] = ()
    """The channels that get it; none for all."""


@dataclass(frozen=True, slots=True)
class ScoredTransaction:
    """A score, how its transaction came, and by which model: None if rules found it while there was no model.

    `matched` are the matches of users' rules that alert.
    """

    score: Score
    source: Origin
    model_version: str | None
    matched: Sequence[Matched] = ()


def raise_alerts(scored: Iterable[ScoredTransaction], now: datetime) -> list[Alert]:
    """The alerts of these transactions, in their order. A transaction with tags only has none."""
    return [
        alert for one in scored if (one.score.is_anomaly or one.matched) and (alert := _alert(one, now)) is not None
    ]


def _event(kinds: Iterable[str], scored: ScoredTransaction) -> tuple[str | None, timedelta | None]:
    """What happened, and within what time, if one kind alone raised the alert and its findings may be one event.

    Of the forest, and of a rule that says so, those of one pattern are. A dust storm is one alert, not one for each
    transaction. An alert that another kind raised too stands for itself.
    """
    kind, *others = raising(kinds)
    pattern = scored.score.pattern
    within = next((one.alike_within for one in scored.matched), kind_named(kind).one_alert_within)
    if others or within is None or (scored.matched and pattern is None):
        return None, None
    return f"{kind}:{pattern}" if scored.matched or kind == "forest" else kind, within


def is_late(source: Origin, seen_at: datetime, now: datetime) -> bool:
    """Whether an alert raised now is no longer live: recovered, bulk-loaded or scored long after."""
    return source != "feed" or now - seen_at > LATE_AFTER


def _alert(scored: ScoredTransaction, now: datetime) -> Alert | None:
    score = scored.score
    reasons = [*score.reasons, *(matched.reason for matched in scored.matched)]
    kinds = [reason.kind for reason in reasons]
    if score.score >= score.threshold:  # the forest gives no reason if no single feature stands out
        kinds.append("forest")
    of_rules = {matched.reason.kind: matched.severity for matched in scored.matched}
    severities = [of_rules.get(kind, kind_named(kind).severity) for kind in raising(kinds)]
    if not severities:
        return None
    kinds = most_severe_first(kinds, of_rules)
    event, within = _event(kinds, scored)
    return Alert(
        alert_key=score.txid,
        kinds=kinds,
        severity=max(severities),
        reasons=sorted(reasons, key=lambda reason: kinds.index(reason.kind)),
        late=is_late(scored.source, score.seen_at, now),
        seen_at=score.seen_at,
        created_at=now,
        model_version=scored.model_version,
        event=event,
        alike_within=within,
        channels=_channels(raising(kinds), scored.matched),
    )


def _channels(raised: Iterable[str], matched: Sequence[Matched]) -> tuple[str, ...]:
    """Those that rules name, if nothing else raised the alert: what a detector finds is for all channels."""
    named = {match.reason.kind: match.channels for match in matched}
    chosen = [named.get(kind, ()) for kind in raised]
    return tuple(sorted(set().union(*chosen))) if all(chosen) else ()
