"""Windows into which something landed after they may have been sealed. The landing sensor reports them again.

What is landed late is landed by a worker that had spooled it, by recovery from blocks, or by a replay. Whoever lands
it notes its windows in the same database transaction, so that none is forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from txwatch.store.database import Connection


@dataclass(frozen=True)
class LateWindow:
    """One note. Several can name one window."""

    id: int
    window_start: datetime


def note_late_windows(connection: Connection, windows: Iterable[datetime], reason: str) -> None:
    """Ask for these windows to be reported again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO late_windows (window_start, reason) VALUES (%s, %s)",
            [(window, reason) for window in sorted(set(windows))],
        )


def read_late_windows(connection: Connection, limit: int) -> list[LateWindow]:
    """The oldest notes."""
    with connection.cursor(row_factory=class_row(LateWindow)) as cursor:
        return cursor.execute("SELECT id, window_start FROM late_windows ORDER BY id LIMIT %s", [limit]).fetchall()


def forget_late_windows(connection: Connection, ids: Sequence[int]) -> None:
    """Remove notes that were reported. By id: a note that is committed meanwhile can have a lower one."""
    connection.execute("DELETE FROM late_windows WHERE id = ANY(%s)", [list(ids)])
