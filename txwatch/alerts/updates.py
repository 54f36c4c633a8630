"""What becomes known of an alerted transaction afterwards: further kinds, its confirmation, its replacement.

Insert-only like the alerts themselves. The dispatcher writes it into the message that was sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from txwatch.alerts.identity import former_ids
from txwatch.alerts.kinds import kind_named
from txwatch.alerts.raising import Alert
from txwatch.store.database import Connection
from txwatch.store.sql import statement


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
    return connection.execute(statement(__file__, "insert_updates"), {"updates": rows}).rowcount


def insert_chain_news(connection: Connection, now: datetime) -> int:
    """Insert what the recorded blocks say of alerts, in the caller's transaction. Returns how many news there were.

    A transaction was confirmed; or the block that confirmed it lost a chain split; or another one that spends all of
    its coins was confirmed instead. The feed names coins by address, value and position only, and so does the last.
    """
    confirmed, replaced = statement(__file__, "insert_confirmations"), statement(__file__, "insert_replacements")
    return sum(connection.execute(news, {"now": now}).rowcount for news in (confirmed, replaced))


def read_edition(connection: Connection, chat_id: str, alert_key: str) -> Edition:
    """The message about an alert in a chat, with all news about it."""
    row = connection.execute(
        "SELECT chat_id, message_id, sent_at, array_agg(text ORDER BY created_at, update_key), max(created_at)"
        " FROM alert_deliveries JOIN alert_updates USING (alert_key)"
        " WHERE chat_id = ANY(%s) AND alert_key = %s AND state = 'sent'"
        " GROUP BY chat_id, message_id, sent_at ORDER BY chat_id = %s DESC, chat_id LIMIT 1",
        [[chat_id, *former_ids(connection, chat_id)], alert_key, chat_id],
    ).fetchone()
    if row is None:
        raise LookupError(f"no message about {alert_key} in chat {chat_id}")
    return Edition(alert_key, *row)
