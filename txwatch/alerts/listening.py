"""Whether the bot hears what is said to it. The bot notes it, the health check reads it: they are two processes."""

from dataclasses import dataclass
from datetime import datetime

from txwatch.store.database import Connection


@dataclass(frozen=True)
class Listening:
    """What the bot noted last. Times UTC."""

    noted_at: datetime
    deaf_since: datetime | None
    """Since when Telegram gives it no updates; None while it does."""
    reason: str | None


def note_listening(connection: Connection, now: datetime, problem: str | None) -> None:
    """Note that the bot hears, or why it does not."""
    connection.execute(
        "INSERT INTO telegram_bot AS bot (noted_at, deaf_since, reason)"
        " VALUES (%(now)s, CASE WHEN %(problem)s::text IS NOT NULL THEN %(now)s END, %(problem)s)"
        " ON CONFLICT (only_one) DO UPDATE SET noted_at = excluded.noted_at, reason = excluded.reason, deaf_since ="
        " CASE WHEN excluded.reason IS NOT NULL THEN coalesce(bot.deaf_since, excluded.deaf_since) END",
        {"now": now, "problem": problem},
    )


def read_listening(connection: Connection) -> Listening | None:
    """What the bot noted last; None if none ever ran."""
    row = connection.execute("SELECT noted_at, deaf_since, reason FROM telegram_bot").fetchone()
    return None if row is None else Listening(*row)
