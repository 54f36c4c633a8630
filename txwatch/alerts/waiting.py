"""Whether a delivery run is called for, and how delivery has done."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.alerts.deliveries import read_chat
from txwatch.alerts.identity import present_id
from txwatch.alerts.pacing import Limits
from txwatch.alerts.planning import SendAlert, SendDigest, next_step
from txwatch.store.database import Connection
from txwatch.store.sql import statement

OTHERS_HAVE = timedelta(seconds=15)
"""Whoever raised an alert delivers it too; only what still waits after this needs a run of its own."""
RUN_STARTS_IN = timedelta(seconds=5)
LEFT_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class DeliveryLevels:
    """Deliveries by state, and from seen to sent in ms, over the alerts sent alone that were not late."""

    sent: int
    digested: int
    pending: int
    uncertain: int
    dead: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None


def delivery_needed(
    connection: Connection, chats: Sequence[str], now: datetime, limits: Limits | None = None
) -> str | None:
    """Why a delivery run should start now, in words for the operator, or None."""
    for chat_id in dict.fromkeys(present_id(connection, chat_id) for chat_id in chats):
        chat = read_chat(connection, chat_id, limits or Limits(), now)
        step = next_step(chat, now + RUN_STARTS_IN)
        overdue = sum(now - alert.created_at > OTHERS_HAVE for alert in chat.pending) + len(chat.unlisted)
        if isinstance(step, SendAlert | SendDigest) and overdue:
            return f"{overdue} alerts wait for chat {chat_id}"
    left = connection.execute(
        "SELECT count(*) FROM alert_deliveries JOIN telegram_requests ON request_id = id"
        " WHERE state = 'sending' AND started_at < %s",
        [now - LEFT_AFTER],
    ).fetchone()
    return f"{left[0]} deliveries were left half done" if left and left[0] else None


def read_delivery_levels(connection: Connection, since: datetime) -> DeliveryLevels:
    """How the deliveries of alerts raised since a moment stand."""
    row = connection.execute(statement(__file__, "delivery_levels"), {"since": since}).fetchone()
    if row is None:
        raise LookupError("the query for delivery levels gave no row")
    sent, digested, pending, uncertain, dead, latencies = row
    p50, p99 = latencies or (None, None)
    return DeliveryLevels(sent, digested, pending, uncertain, dead, p50 and round(p50, 1), p99 and round(p99, 1))
