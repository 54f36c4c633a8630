"""Labels and the watch list in Postgres, and what is known of addresses at one moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from txwatch.labels.label import Known, Label, known_by_address
from txwatch.store.database import Connection, statement


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


_COPY = "COPY staged_labels (place, address, source, entity, category, confidence, note, changed_on) FROM STDIN"


@dataclass(frozen=True)
class Imported:
    """Labels that were not there, that were and said something else, and that said the same."""

    new: int
    changed: int
    unchanged: int


def import_labels(connection: Connection, labels: Iterable[Label], now: datetime) -> Imported:
    """Insert or update labels, in the caller's transaction; of several for one address and source the last counts.

    By COPY into a staging table and one statement, however many they are.
    """
    connection.execute(statement("labels", "stage_labels"))
    connection.execute("TRUNCATE staged_labels")  # another file may have been imported in the same transaction
    with connection.cursor().copy(_COPY) as copy:
        for place, label in enumerate(labels):
            copy.write_row(
                (
                    place,
                    label.address,
                    label.source,
                    _stored(label.entity),
                    _stored(label.category),
                    _stored(label.confidence),
                    _stored(label.note),
                    label.changed_on,
                )
            )
    row = connection.execute(statement("labels", "import_labels"), {"now": now}).fetchone()
    imported = Imported(*row) if row else Imported(0, 0, 0)
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
    row = connection.execute("SELECT version FROM label_changes").fetchone()
    return int(row[0]) if row else 0


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
    return text.replace("\0", "\ufffd")


class KnownAddresses(Protocol):
    """What is known at one moment."""

    @property
    def watched(self) -> Mapping[str, str]:
        """The watched addresses, each with its note."""
        ...

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """What is known of those of the addresses that have labels."""
        ...


@dataclass(frozen=True)
class GivenAddresses:
    """What the caller says, by default nothing: for captures that are judged without a database, and for tests."""

    watched: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Known] = field(default_factory=dict)

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """See `KnownAddresses`."""
        return {address: self.labels[address] for address in addresses if address in self.labels}


@dataclass(frozen=True)
class StoredAddresses:
    """What the database knows: the watch list as it was read, labels as they are when they are asked for."""

    connection: Connection
    watched: Mapping[str, str]

    @classmethod
    def on(cls, connection: Connection) -> "StoredAddresses":
        """What is known now."""
        return cls(connection, read_watch_list(connection))

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """See `KnownAddresses`. Raises psycopg.OperationalError when the database is away."""
        return read_known(self.connection, addresses)
