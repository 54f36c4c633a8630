"""Which days the archive has, as the database records it, and which days are complete and wait to be archived."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from txwatch.archive.manifest import Manifest
from txwatch.ingest.sealing import sealed_through
from txwatch.store.database import Connection, read_rows, scalar, statement
from txwatch.store.lease import read_lease

if TYPE_CHECKING:
    from txwatch.archive.datasets import Dataset

DATASETS = ("transactions", "features", "scores")
"""The names of what is archived; `datasets.py` has the rest of them, and Arrow with it."""
DAY = timedelta(days=1)
SETTLES_WITHIN = timedelta(hours=2)
"""After the end of a day: what was mined late is recovered, and the last windows are scored."""

OVERDUE_AFTER = timedelta(days=3)
"""Age at which a day should be in the archive whatever was waited for."""
GIVEN_UP_AFTER = timedelta(days=2)
"""Age at which a day is archived as it is: there may be no champion, and a gap may be recovered much later."""


@dataclass(frozen=True)
class ArchivedDay:
    """A dataset and day that was archived, or is being archived for the first time: then most is None.

    `changes` counts the times that the database wrote into the day, `archived_changes` those that the file has.
    """

    dataset: str
    day: date
    changes: int
    archived_changes: int | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    format: int | None = None
    rows: int | None = None
    checksum: str | None = None
    stored_rows: int | None = None
    stored_checksum: str | None = None
    archived_at: datetime | None = None
    checked_at: datetime | None = None
    broken: str | None = None
    dropped_at: datetime | None = None
    removed_at: datetime | None = None

    @property
    def manifest(self) -> Manifest | None:
        """What the file's manifest says, None without a file."""
        values = {name: getattr(self, name) for name in Manifest.__struct_fields__}
        return None if self.archived_changes is None else Manifest(**values)

    @property
    def complete(self) -> bool:
        """Whether the file is sound and holds all that the database holds of the day."""
        return self.broken is None and self.archived_changes == self.changes

    @property
    def alone(self) -> bool:
        """Whether the file holds rows that the database has given up."""
        return self.archived_changes is not None and (self.dropped_at is not None or self.rows != self.stored_rows)


def day_span(day: date) -> tuple[datetime, datetime]:
    """The start and the end of a day, UTC."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + DAY


def read_days(connection: Connection, dataset: "Dataset | None" = None) -> list[ArchivedDay]:
    """The days of a dataset, or of all, the oldest first; not those that the archive has given up."""
    return [one for one in read_all_days(connection, dataset) if one.removed_at is None]


def read_all_days(connection: Connection, dataset: "Dataset | None" = None) -> list[ArchivedDay]:
    """The same with those whose files are there for a while only, for who reads them just now."""
    names = list(DATASETS) if dataset is None else [dataset.name]
    query = "SELECT * FROM archived_days WHERE dataset = ANY(%s) ORDER BY day, dataset"
    return read_rows(connection, ArchivedDay, query, [names])


def read_day(connection: Connection, dataset: "Dataset", day: date) -> ArchivedDay | None:
    """One of them, None if it was never begun."""
    query = "SELECT * FROM archived_days WHERE dataset = %s AND day = %s"
    return next(iter(read_rows(connection, ArchivedDay, query, [dataset.name, day])), None)


def begin_day(connection: Connection, dataset: "Dataset", day: date) -> int:
    """Have the writes into a day counted from now on. Returns the id of a transaction that began after that."""
    connection.execute(
        "INSERT INTO archived_days (dataset, day) VALUES (%s, %s) ON CONFLICT DO NOTHING", [dataset.name, day]
    )
    begun: int = scalar(connection, "SELECT pg_current_xact_id()::text::bigint")
    return begun


def counted_since(connection: Connection, begun: int) -> bool:
    """Whether every transaction that could have written without being counted has ended."""
    return bool(scalar(connection, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= %s", [begun]))


def record_day(connection: Connection, manifest: Manifest, archived_changes: int) -> None:
    """Record what the archive holds of a day, and up to which of the writes. Safe to repeat."""
    values = {name: getattr(manifest, name) for name in Manifest.__struct_fields__}
    connection.execute(statement("archive", "record_day"), values | {"archived_changes": archived_changes})


def adopt_day(connection: Connection, dataset: "Dataset", manifest: Manifest, now: datetime) -> None:
    """Record a day that another database archived: as given up if there are no rows of it here, else to be archived."""
    rows = count_rows(connection, dataset, manifest.day)
    begin_day(connection, dataset, manifest.day)
    known = read_day(connection, dataset, manifest.day)
    unknown_to_it = -1
    record_day(connection, manifest, unknown_to_it if rows else known.changes if known else 0)
    connection.execute(
        "UPDATE archived_days SET stored_rows = %s, dropped_at = %s, checked_at = NULL WHERE dataset = %s AND day = %s",
        [rows, None if rows else now, dataset.name, manifest.day],
    )


def count_rows(connection: Connection, dataset: "Dataset", day: date) -> int:
    """How many rows the database holds of a day."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE seen_at >= %s AND seen_at < %s")
    return int(scalar(connection, query.format(sql.Identifier(dataset.table)), day_span(day)))


def read_stored_days(connection: Connection, dataset: "Dataset", before: datetime) -> list[date]:
    """The days that end by a midnight, UTC, and of which the database holds rows, the oldest first."""
    first = sql.SQL("SELECT min(seen_at) FROM {} WHERE seen_at >= %s AND seen_at < %s").format(
        sql.Identifier(dataset.table)
    )
    days: list[date] = []
    since = datetime.min.replace(year=1970, tzinfo=UTC)
    while (seen_at := scalar(connection, first, [since, before])) is not None:
        days.append(seen_at.astimezone(UTC).date())
        since = day_span(days[-1])[1]
    return days


def mark_broken(connection: Connection, dataset: "Dataset", day: date, why: str) -> None:
    """Note that a day's file cannot be used, until it is archived again or found sound."""
    connection.execute("UPDATE archived_days SET broken = %s WHERE dataset = %s AND day = %s", [why, dataset.name, day])


def mark_sound(connection: Connection, dataset: "Dataset", day: date, now: datetime) -> None:
    """Note that a day's whole file was read, and is as its manifest says."""
    connection.execute(
        "UPDATE archived_days SET broken = NULL, checked_at = %s WHERE dataset = %s AND day = %s",
        [now, dataset.name, day],
    )


def mark_dropped(connection: Connection, dataset: "Dataset", day: date, now: datetime) -> None:
    """Note that the database has given up its rows of a day."""
    connection.execute(
        "UPDATE archived_days SET dropped_at = %s WHERE dataset = %s AND day = %s", [now, dataset.name, day]
    )


@dataclass(frozen=True)
class OpenDay:
    """A day that cannot be archived yet, and why not in words."""

    day: date
    why: str


def closed_days(connection: Connection, now: datetime) -> tuple[list[date], list[OpenDay]]:
    """The days with transactions that are over and complete, and those that are over and not complete, oldest first.

    A day is complete when it is sealed, no gap of it waits for recovery, nothing that landed late in it waits to be
    computed, and each of its windows is scored; or when it is older than GIVEN_UP_AFTER.
    """
    through = min(sealed_through(read_lease(connection), now), now - SETTLES_WITHIN)
    midnight = through.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    values = {"end": midnight, "given_up": now - GIVEN_UP_AFTER}
    found: list[tuple[date, str | None]] = connection.execute(statement("archive", "closed_days"), values).fetchall()
    return [day for day, why in found if why is None], [OpenDay(day, why) for day, why in found if why is not None]


@dataclass(frozen=True)
class Troubles:
    """What is wrong with an archive: days that wait for too long to be written into it, and files that are broken."""

    overdue: list[date]
    broken: list[str]

    @property
    def texts(self) -> list[str]:
        """Each in words: broken files, then the days that the database has to keep."""
        named = ", ".join(map(str, self.overdue[:3])) + (f" and {len(self.overdue) - 3} more" * (len(self.overdue) > 3))
        kept = [f"not in the archive, and so kept in the database: {named}"] if self.overdue else []
        return [*self.broken, *kept]


def archive_troubles(connection: Connection, now: datetime) -> Troubles:
    """What is wrong by what the database knows: no file is read for it."""
    archived = read_days(connection)
    closed, still_open = closed_days(connection, now)
    waiting = {*days_to_archive(closed, archived), *(one.day for one in still_open)}
    overdue = sorted(day for day in waiting if now - day_span(day)[1] > OVERDUE_AFTER)
    return Troubles(overdue, [one.broken for one in archived if one.broken is not None])


def days_to_archive(closed: Iterable[date], archived: Sequence[ArchivedDay]) -> list[date]:
    """Of the closed days those of which some dataset is not in the archive, or not as the database has it, by day."""
    complete = {(one.dataset, one.day) for one in archived if one.complete}
    # What is broken and nowhere else cannot be archived again.
    lost = {one.day for one in archived if one.broken and one.alone}
    changed = {one.day for one in archived if one.archived_changes is not None and not one.complete} - lost
    return sorted({day for day in {*closed, *changed} if any((name, day) not in complete for name in DATASETS)})
