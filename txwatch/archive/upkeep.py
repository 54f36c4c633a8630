"""Keep the archive and the database in step: give up rows that the archive has, read files again, adopt an archive.

A day goes out of the database only when its file was read whole and sound, and its rows are those from which the file
was made. The transaction that compares them deletes what it saw, and no more: a row that lands meanwhile stays.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import perf_counter

from psycopg import sql
from psycopg.errors import LockNotAvailable, SerializationFailure

from txwatch.archive.datasets import ARCHIVED, FEATURES, SCORES, TRANSACTIONS, Dataset
from txwatch.archive.days import (
    ArchivedDay,
    adopt_day,
    day_span,
    mark_broken,
    mark_dropped,
    mark_sound,
    read_all_days,
    read_day,
    read_days,
    read_stored_days,
)
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import verify_file
from txwatch.archive.writing import archive_day, stored_content
from txwatch.places import ObjectStoreError
from txwatch.store.database import Connection, table_exists
from txwatch.store.retention import LOCK_MS, partition_name

GIVEN_UP_IN_ORDER = (SCORES, FEATURES, TRANSACTIONS)
"""Derived rows go first."""
CHECKED_BYTES = 5 << 30
"""Bytes of files that one check reads."""


@dataclass(frozen=True)
class GivenUp:
    """A day whose rows the database gave up. `why` is None, or says why it kept them."""

    dataset: str
    day: date
    rows: int
    seconds: float
    why: str | None = None


def give_up_days(
    connection: Connection,
    archive: Archive,
    before: datetime,
    now: datetime,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[GivenUp]:
    """Give up the rows of all days that end by a midnight, and archive those first that are not. Safe to repeat."""
    for dataset in GIVEN_UP_IN_ORDER:
        for day in read_stored_days(connection, dataset, before):
            began = perf_counter()
            rows, why = 0, None
            try:
                one = read_day(connection, dataset, day)
                if one is None or not one.complete:
                    archive_day(connection, archive, dataset, day, now, wait)
                rows = _give_up(connection, archive, dataset, day, now)
            except (ArchiveError, ObjectStoreError, OSError) as error:
                why = str(error)
            except (SerializationFailure, LockNotAvailable):
                why = "it is in use"
            yield GivenUp(dataset.name, day, rows, perf_counter() - began, why)


def _give_up(connection: Connection, archive: Archive, dataset: Dataset, day: date, now: datetime) -> int:
    """Delete a day's rows if the archive has them, and return how many. Raises ArchiveError."""
    one = read_day(connection, dataset, day)
    if one is None or one.manifest is None:
        raise ArchiveError(f"{dataset.name} of {day} are not archived")
    if archive.manifest(dataset, day) != one.manifest:
        raise ArchiveError(f"{dataset.name} of {day}: the archive's manifest is not that of this database")
    try:
        verify_file(archive, dataset, one.manifest)
    except ArchiveError as error:
        mark_broken(connection, dataset, day, str(error))
        raise
    mark_sound(connection, dataset, day, now)
    partition = partition_name(dataset.table, datetime.combine(day, datetime.min.time(), UTC))
    by_day = dataset is FEATURES and table_exists(connection, partition)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_MS}ms"))
        if by_day:
            # A drop takes what nobody has seen: so nobody may write from before the comparison on.
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(partition)))
        stored = stored_content(connection, dataset, day)
        if not one.manifest.holds(stored):
            raise ArchiveError(f"{dataset.name} of {day}: the database no longer holds what was archived")
        if by_day:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition)))
        else:
            delete = sql.SQL("DELETE FROM {} WHERE seen_at >= %s AND seen_at < %s").format(
                sql.Identifier(dataset.table)
            )
            connection.execute(delete, day_span(day))
        mark_dropped(connection, dataset, day, now)
    return stored.rows


def check_files(
    connection: Connection, archive: Archive, now: datetime, most_bytes: int = CHECKED_BYTES
) -> Iterator[tuple[ArchivedDay, str | None]]:
    """Read the files again that were read longest ago, and give what is wrong with each, None for nothing."""
    by_age = sorted(read_days(connection), key=lambda one: one.checked_at or datetime.min.replace(tzinfo=UTC))
    left = most_bytes
    for one in by_age:
        if one.manifest is None:
            continue
        left -= one.manifest.bytes
        if left < 0:
            return
        dataset = ARCHIVED[one.dataset]
        try:
            verify_file(archive, dataset, one.manifest)
        except ArchiveError as error:
            mark_broken(connection, dataset, one.day, str(error))
            yield one, str(error)
        else:
            mark_sound(connection, dataset, one.day, now)
            yield one, None


def adopt(connection: Connection, archive: Archive, now: datetime) -> list[tuple[str, date]]:
    """Record days of the archive that this database does not know, such as after the restore of an older backup.

    What the database holds of such a day besides is archived again by and by. Raises ArchiveError once all others are
    adopted if there are manifests that cannot be read.
    """
    adopted, unread = [], []
    for dataset in ARCHIVED.values():
        known = {one.day: one.file for one in read_all_days(connection, dataset)}
        for day in archive.days(dataset):
            try:
                manifest = archive.manifest(dataset, day)
            except ArchiveError as error:
                unread.append(str(error))
                continue
            if manifest is not None and known.get(day) != manifest.file:
                with connection.transaction():
                    adopt_day(connection, dataset, manifest, now)
                adopted.append((dataset.name, day))
    if unread:
        more = f", and {len(unread) - 1} more manifests cannot be read" if unread[1:] else ""
        raise ArchiveError(f"{unread[0]}{more}; {len(adopted)} others were adopted.")
    return adopted
