"""The start of the history: the first window there is. Kept in the database, so that all machines agree on it."""

from datetime import UTC, datetime

from txwatch.store.database import Connection, database_now
from txwatch.windows import window_start


def record_history_start(connection: Connection, wanted: datetime | None = None) -> None:
    """Keep the wanted start. Without one keep what is kept already, and the first time the present day's midnight."""
    midnight = database_now(connection).replace(hour=0, minute=0, second=0, microsecond=0)
    connection.execute(
        "INSERT INTO history_start (first_window) VALUES (%s)"
        " ON CONFLICT (id) DO UPDATE SET first_window = coalesce(%s, history_start.first_window)",
        [as_window(wanted or midnight), wanted and as_window(wanted)],
    )


def read_history_start(connection: Connection) -> datetime | None:
    """The start of the first window; None before `record_history_start`."""
    row = connection.execute("SELECT first_window FROM history_start").fetchone()
    return row[0] if row else None


def as_window(moment: datetime) -> datetime:
    """The window that holds a moment, which is UTC if it does not say otherwise."""
    return window_start(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
