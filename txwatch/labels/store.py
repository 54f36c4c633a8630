"""Labels and the watch list in Postgres, and what is known of addresses at one moment."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from txwatch.labels.label import Known, Label, known_by_address
from txwatch.store.database import Connection, scalar, statement


def watch(connection: Connection, address: str, note: str, now: datetime) -> None:
    """Watch an address, in the caller's transaction. Doing it again replaces the note."""
    connection.execute(
        "INSERT INTO watch_list (address, note, added_at) VALUES (%s, %s, %s)"
        " ON CONFLICT (address) DO UPDATE SET note = excluded.note",
        [address, _stored(note), now],
    )
    note_change(connection, now)


def watch_all(connection: Connection, labels: Iterable[Label], now: datetime) -> int:
    """Watch the addresses of labels, in the caller's transaction; those that are watched keep their note.

    Returns how many are new.
    """
    notes = {label.address: _stored(label.entity) for label in labels}
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


@dataclass(frozen=True)
class Imported:
    """Labels that were not there, that were and said something else, and that said the same."""

    new: int
    changed: int
    unchanged: int


def import_labels(connection: Connection, labels: Iterable[Label], now: datetime) -> Imported:
    """Insert or update labels, in the caller's transaction; of several for one address and source the last counts."""
    connection.execute(statement("labels", "stage_labels"))
    connection.execute("TRUNCATE staged_labels")  # another file may have been imported in the same transaction
    columns = "place, address, source, entity, category, confidence, note, changed_on"
    with connection.cursor().copy(f"COPY staged_labels ({columns}) FROM STDIN") as copy:
        for place, label in enumerate(labels):
            texts = (label.address, label.source, label.entity, label.category, label.confidence, label.note)
            copy.write_row((place, *map(_stored, texts), label.changed_on))
    [counts] = connection.execute(statement("labels", "import_labels"), {"now": now}).fetchall()
    imported = Imported(*counts)
    if imported.new or imported.changed:
        note_change(connection, now)
    return imported


def note_change(connection: Connection, now: datetime) -> None:
    """Say that what is known of addresses has changed, in the caller's transaction: others look at it again."""
    connection.execute(
        "INSERT INTO label_changes (version, changed_at) VALUES (1, %s)"
        " ON CONFLICT (id) DO UPDATE SET version = label_changes.version + 1, changed_at = excluded.changed_at",
        [now],
    )


def read_version(connection: Connection) -> int:
    """How often what is known of addresses has changed."""
    return scalar(connection, "SELECT version FROM label_changes") or 0


def read_known(connection: Connection, addresses: Iterable[str]) -> dict[str, Known]:
    """What is known of those of the addresses that have labels."""
    wanted = list(addresses)
    if not wanted:
        return {}
    rows = connection.execute(
        "SELECT address, source, entity, category, confidence, note, changed_on FROM labels WHERE address = ANY(%s)",
        [wanted],
    )
    return known_by_address(Label(*row) for row in rows)


def _stored(text: str) -> str:
    """Without NUL, which Postgres does not take."""
    return text.replace("\0", "\ufffd")


@dataclass(frozen=True)
class KnownAddresses:
    """What is known at one moment: the watched addresses, each with its note, and labels. By default nothing.

    `labels_of` gives what is known of those of the addresses that have labels.
    """

    watched: Mapping[str, str] = field(default_factory=dict)
    labels_of: Callable[[Iterable[str]], Mapping[str, Known]] = lambda _: {}

    @classmethod
    def stored(cls, connection: Connection) -> "KnownAddresses":
        """The watch list as it is now, and labels as they are when they are asked for."""
        return cls(read_watch_list(connection), partial(read_known, connection))


NOTHING_KNOWN = KnownAddresses()
