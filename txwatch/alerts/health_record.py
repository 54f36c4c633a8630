"""The results of health checks are kept: each change, and every few minutes that nothing changed."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from txwatch.alerts.system import Condition
from txwatch.store.database import Connection

KEEP_UNCHANGED_EVERY = timedelta(minutes=5)
KEEP_FOR = timedelta(days=30)


def record_health(connection: Connection, found: Sequence[Condition], now: datetime) -> int:
    """Keep what was found if it differs from the last result of that check, or that is old. Returns the rows kept.

    Safe to repeat: the same moment again keeps nothing. What is older than KEEP_FOR is dropped.
    """
    connection.execute("DELETE FROM health_checks WHERE checked_at < %s", [now - KEEP_FOR])
    return connection.execute(
        "INSERT INTO health_checks (checked_at, name, state, text)"
        " SELECT %(now)s, found.name, found.state, found.text"
        " FROM unnest(%(names)s::text[], %(states)s::text[], %(texts)s::text[]) AS found (name, state, text)"
        " LEFT JOIN LATERAL (SELECT state, checked_at FROM health_checks AS kept WHERE kept.name = found.name"
        " ORDER BY checked_at DESC LIMIT 1) AS last ON true"
        " WHERE last.state IS DISTINCT FROM found.state OR last.checked_at <= %(oldest)s",
        {
            "now": now,
            "oldest": now - KEEP_UNCHANGED_EVERY,
            "names": [condition.name for condition in found],
            "states": [condition.state.value for condition in found],
            "texts": [condition.text for condition in found],
        },
    ).rowcount
