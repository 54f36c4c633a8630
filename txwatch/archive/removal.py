"""Take days out of the archive that are older than its own retention, TXWATCH_ARCHIVE_DAYS.

A day goes in two steps. First it is no longer a day of the archive: no query that begins from then on reads its file.
The file goes once whoever had begun before has ended, for a file that is gone in the middle would fail the whole query.
A day of which the database still has rows stays, for it would be archived again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from txwatch.archive.datasets import ARCHIVED, Dataset
from txwatch.archive.days import ArchivedDay, day_span, read_all_days
from txwatch.archive.manifest import Archive
from txwatch.places import ObjectStoreError
from txwatch.store.database import Connection, scalar
from txwatch.store.locks import Lock, if_free

READERS_END_WITHIN = timedelta(hours=12)
"""After a day was given up. The nightly maintenance removes the files of the night before."""


@dataclass(frozen=True)
class Removed:
    """A day whose file has left the archive. `why` is None, or says why it is still there."""

    dataset: str
    day: date
    bytes: int
    why: str | None = None


def remove_days(connection: Connection, archive: Archive, before: datetime, now: datetime) -> Iterator[Removed]:
    """Give up the days that end by a midnight, UTC, and remove the files of those given up long enough ago.

    Safe to repeat and to interrupt.
    """
    for one in read_all_days(connection):
        if one.removed_at is not None:
            # One of the future was given up while a clock was ahead, long ago or not: it waits from now on.
            if one.removed_at > now:
                _give_up(connection, one, now)
            elif now - one.removed_at >= READERS_END_WITHIN:
                removed = _remove(connection, archive, one)
                if removed is not None:
                    yield removed
        elif day_span(one.day)[1] <= before and not _is_stored(connection, ARCHIVED[one.dataset], one.day):
            _give_up(connection, one, now)


def _is_stored(connection: Connection, dataset: Dataset, day: date) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE seen_at >= %s AND seen_at < %s)")
    return bool(scalar(connection, query.format(sql.Identifier(dataset.table)), day_span(day)))


def _give_up(connection: Connection, one: ArchivedDay, now: datetime) -> None:
    connection.execute(
        "UPDATE archived_days SET removed_at = %s WHERE dataset = %s AND day = %s"
        " AND removed_at IS NOT DISTINCT FROM %s AND changes = %s",
        [now.astimezone(UTC), one.dataset, one.day, one.removed_at, one.changes],
    )


def _remove(connection: Connection, archive: Archive, one: ArchivedDay) -> Removed | None:
    """Remove the file of a day, and after it what says that there was one. None if it is being archived again."""
    dataset, size = ARCHIVED[one.dataset], one.bytes or 0
    with if_free(connection, Lock.ARCHIVE, f"{one.dataset} {one.day}") as held:
        if not held or _is_stored(connection, dataset, one.day):
            return None
        try:
            archive.remove(dataset, one.day)
        except (ObjectStoreError, OSError) as error:
            return Removed(one.dataset, one.day, size, str(error))
        connection.execute("DELETE FROM archived_days WHERE dataset = %s AND day = %s", [one.dataset, one.day])
    return Removed(one.dataset, one.day, size)
