"""What becomes known of an alerted transaction afterwards: further kinds, its confirmation, its replacement.

Insert-only like the alerts themselves. The dispatcher writes it into the message that was sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from txwatch.alerts.identity import former_ids
from txwatch.alerts.kinds import kind_named
from txwatch.alerts.raising import Alert
from txwatch.store.database import Connection
from txwatch.store.sql import statement

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
    return connection.execute(statement(__file__, "insert_updates"), {"updates": rows}).rowcount


def insert_chain_news(connection: Connection, now: datetime) -> int:
    """Insert what the recorded blocks say of alerts, in the caller's transaction. Returns how many news there were.

    A transaction was confirmed; or the block that confirmed it lost a chain split; or another one was confirmed that
    seems to spend its coin. The feed does not say which transaction made a coin, and many look alike. So this is said
    only of a coin of which no other is known, BURIED blocks later, and never for certain.
    """
    confirmed = connection.execute(statement(__file__, "insert_confirmations"), {"now": now}).rowcount
    select = connection.execute(statement(__file__, "select_conflicts"), {"now": now, "buried": BURIED})
    conflicts = [_Conflict(key, txid, height, msgspec.Raw(coin.encode()), at) for key, txid, height, coin, at in select]
    if not conflicts:
        return confirmed
    replaced = connection.execute(
        statement(__file__, "insert_replacements"),
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
        statement(__file__, "select_edition"), {"chat": chat_id, "chats": chats, "alert_key": alert_key}
    ).fetchone()
    if row is None:
        raise LookupError(f"no message about {alert_key} in chat {chat_id}")
    return Edition(alert_key, *row)
