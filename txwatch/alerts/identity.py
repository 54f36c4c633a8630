"""A chat is one, with all the ids that it ever had: a group that becomes a supergroup gets another id.

What is known of a chat is kept under its present id, and so is what waits for it. `telegram_chats.moved_to` of a former
id is the present one. What was sent before a move stays where it is, under the former id: nobody can change it there.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from txwatch.store.database import Connection


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
