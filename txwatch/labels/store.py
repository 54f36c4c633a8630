"""`labels` in Postgres: one row for an address and source. Importing the same again changes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from txwatch.labels.label import Known, Label, known_by_address
from txwatch.store.database import Connection
from txwatch.store.sql import statement

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
    connection.execute(statement(__file__, "stage_labels"))
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
    row = connection.execute(statement(__file__, "import_labels"), {"now": now}).fetchone()
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
