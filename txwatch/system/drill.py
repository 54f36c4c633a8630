"""A drill: restore a backup into a server of its own, and find in it what was backed up. What runs is left alone."""

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic

from txwatch.clock import utc_now
from txwatch.store.cluster import embedded_postgres
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.migrate import migrate
from txwatch.system.backup import STATE, BackupCard, backup, count_rows, put_back, read_card

FOLDER = "backups"
"""Under TXWATCH_HOME: where a drill looks for files that `txwatch backup` wrote."""


@dataclass(frozen=True)
class Drill:
    """What was found. Times are UTC, sizes in bytes.

    `tables` has for each table the rows that were backed up, None if they were not counted, and those that came back.
    `newest` is when the last of its transactions was seen: what came later, this backup does not have.
    """

    file: str
    card: BackupCard
    bytes: int
    seconds: float
    tables: list[tuple[str, int | None, int]]
    files: int
    newest: datetime | None

    @property
    def differing(self) -> list[str]:
        """The tables that did not come back whole."""
        return [table for table, backed_up, restored in self.tables if backed_up not in (None, restored)]


def newest_backup(home: Path) -> Path | None:
    """The file in the folder of backups that was written last, None if there is none."""
    return max((home / FOLDER).glob("*.tar"), key=lambda file: file.stat().st_mtime, default=None)


def drill(database_url: str, home: Path) -> Drill:
    """Restore the newest backup, or one that is made now and not kept. Takes the disk of a second database meanwhile.

    Raises BackupError if the file cannot be restored.
    """
    home = home.resolve()
    with tempfile.TemporaryDirectory(prefix="drill-", dir=home) as folder:
        file = newest_backup(home)
        if file is None:
            file = Path(folder) / "made-for-the-drill.tar"
            backup(database_url, home, file, utc_now())
        return restored(file, Path(folder) / "home")


def restored(file: Path, home: Path) -> Drill:
    """Restore a backup under a home of its own, bring it to the newest schema, and count. Raises BackupError."""
    card, began = read_card(file), monotonic()
    with embedded_postgres(home) as url:
        put_back(url, home, file)
        with connect(url, application="txwatch drill") as connection:
            tables = compared(card, count_rows(connection))
            newest = newest_transaction(connection)
        migrate(url)
        took = monotonic() - began
    files = sum(1 for name in STATE for path in (home / name).rglob("*") if path.is_file())
    return Drill(file.name, card, file.stat().st_size, took, tables, files, newest)


def compared(card: BackupCard, rows: dict[str, int]) -> list[tuple[str, int | None, int]]:
    """The tables of either side, with the rows of both; one that is missing has none."""
    known = card.rows or dict.fromkeys(rows)
    return [(table, known.get(table, 0), rows.get(table, 0)) for table in sorted({*known, *rows})]


def newest_transaction(connection: Connection) -> datetime | None:
    """When the last transaction was seen."""
    newest: datetime | None = scalar(connection, "SELECT max(seen_at) FROM transactions")
    return newest
