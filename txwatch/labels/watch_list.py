"""`watch_list` in Postgres: the addresses that somebody wants to hear of, each with a note."""

from collections.abc import Iterable
from datetime import datetime

from txwatch.labels.label import Label
from txwatch.labels.store import note_change
from txwatch.store.database import Connection


def watch(connection: Connection, address: str, note: str, now: datetime) -> None:
    """Watch an address, in the caller's transaction. Doing it again replaces the note."""
    connection.execute(
        "INSERT INTO watch_list (address, note, added_at) VALUES (%s, %s, %s)"
        " ON CONFLICT (address) DO UPDATE SET note = excluded.note",
        [address, note.replace("\0", "\ufffd"), now],
    )
    note_change(connection, now)


def watch_all(connection: Connection, labels: Iterable[Label], now: datetime) -> int:
    """Watch the addresses of labels, in the caller's transaction; those that are watched keep their note.

    Returns how many are new.
    """
    notes = {label.address: label.entity.replace("\0", "\ufffd") for label in labels}
    added = connection.execute(
        "INSERT INTO watch_list (address, note, added_at)"
        " SELECT address, note, %s FROM unnest(%s::text[], %s::text[]) AS given (address, note) ON CONFLICT DO NOTHING",
        [now, list(notes), list(notes.values())],
    ).rowcount
    if added:
        note_change(connection, now)
    return added


def unwatch(connection: Connection, address: str, now: datetime) -> bool:
    """Watch an address no longer, in the caller's transaction. Returns whether it was watched."""
    gone = connection.execute("DELETE FROM watch_list WHERE address = %s", [address]).rowcount > 0
    if gone:
        note_change(connection, now)
    return gone


def read_watch_list(connection: Connection) -> dict[str, str]:
    """The watched addresses in order, each with its note."""
    return dict(connection.execute("SELECT address, note FROM watch_list ORDER BY address").fetchall())
