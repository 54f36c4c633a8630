"""What people say of alerts: a button below each message, and the precision that follows from the answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from txwatch.store.database import Connection
from txwatch.store.sql import statement

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
    rows = connection.execute(statement(__file__, "precision"), {"since": since})
    return [Precision(*row) for row in rows]
