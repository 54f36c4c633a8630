"""What the disks will hold: bytes a day as measured from this database, and when a disk is full with these settings.

PostgreSQL grows until it holds as many days as are kept, and from then on loses one for each that comes; an archive
grows for good. Both count together where they are on one disk. What others write there does not count, so the day that
is named is the last one on which the disk can be full.
"""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from txwatch.clock import WINDOW
from txwatch.places import Place
from txwatch.store.database import Connection, scalar, statement

SOON = timedelta(days=14)
"""A disk that is full by then is told of: time enough to order one."""
MEASURED_FROM = timedelta(hours=1)
"""Of data. Of less, what every table takes from the start would count for most."""
_FURTHEST_DAYS = 3_650.0
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """What the settings keep: days in the database, and where the archive is, None without one."""

    days: int
    archive: Place | None = None


@dataclass(frozen=True)
class Usage:
    """What was measured: bytes a day of all tables, days that they hold, and bytes that the archive takes for a day."""

    bytes_a_day: float
    days: float
    archived_bytes_a_day: float | None
    """None before the first day is archived."""


@dataclass(frozen=True)
class Growth:
    """What fills a disk, in words, at so many bytes a day, for so many days more."""

    of: str
    place: Path
    bytes_a_day: float
    days: float


@dataclass(frozen=True)
class Disk:
    """A disk of this machine, by a folder on it, its free bytes, and what fills it."""

    place: Path
    free: int
    growths: tuple[Growth, ...]

    @property
    def full_in(self) -> float:
        """Days until it is full; infinite if it never is."""
        left, passed = float(self.free), 0.0
        for until in sorted({growth.days for growth in self.growths}):
            rate = sum(growth.bytes_a_day for growth in self.growths if growth.days >= until)
            days = min(until - passed, left / rate if rate else math.inf)
            if passed + days < until:
                return passed + days
            left, passed = left - rate * days, until
        return math.inf

    @property
    def is_full_soon(self) -> bool:
        """Whether it is full within SOON."""
        return self.full_in <= SOON / _DAY

    def text(self, now: datetime) -> str:
        """What fills it, and when it is full."""
        filling = ", ".join(f"{growth.of} {_gb(growth.bytes_a_day)} a day" for growth in self.growths)
        room = f"{_gb(self.free)} are free under {self.place}"
        if math.isinf(self.full_in):
            return f"{filling}; {room}, enough for all that is kept"
        if self.full_in > _FURTHEST_DAYS:
            return f"{filling}; {room}, enough for ten years"
        return f"{filling}; {room}: full on {now + timedelta(days=self.full_in):%Y-%m-%d}"


def read_usage(connection: Connection) -> Usage | None:
    """What the database measures of itself; None while it holds less than MEASURED_FROM."""
    [(size, windows, archived)] = connection.execute(statement("store", "usage")).fetchall()
    days = windows * WINDOW / _DAY
    return None if days < MEASURED_FROM / _DAY else Usage(size / days, days, archived)


def read_disks(connection: Connection, kept: Kept) -> list[Disk]:
    """The disks of this machine that hold database or archive; none before there is something to measure."""
    usage = read_usage(connection)
    return [] if usage is None else disks(usage, kept, database_folder(connection))


def database_folder(connection: Connection) -> Path | None:
    """The server's folder, None if it is on another machine, or may not be known."""
    if not connection.info.host.startswith("/"):  # by a socket it is this machine's
        return None
    folder: str | None = scalar(connection, "SELECT setting FROM pg_settings WHERE name = 'data_directory'")
    return Path(folder) if folder is not None and _is_there(Path(folder)) else None


def disks(usage: Usage, kept: Kept, database: Path | None) -> list[Disk]:
    """The disks by what was measured. `database` is the server's folder, None if it is not on this machine."""
    growths = []
    if database is not None:
        words = f"the database, which holds {min(usage.days, kept.days):.1f} of {kept.days} days, takes"
        growths.append(Growth(words, database, usage.bytes_a_day, max(0.0, kept.days - usage.days)))
    if isinstance(kept.archive, Path) and usage.archived_bytes_a_day is not None:
        growths.append(Growth("the archive takes", kept.archive, usage.archived_bytes_a_day, math.inf))
    return [_disk(own) for _, own in groupby(sorted(growths, key=_device), key=_device)]


def _disk(growths: Iterable[Growth]) -> Disk:
    filling = tuple(growths)
    place = _existing(filling[0].place)
    return Disk(place, shutil.disk_usage(place).free, filling)


def _device(growth: Growth) -> int:
    """The number of the file system that a growth is on."""
    return _existing(growth.place).stat().st_dev


def _existing(place: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(folder for folder in (place, *place.parents) if _is_there(folder))


def _is_there(place: Path) -> bool:
    """Whether a folder can be seen; a server's may be hidden from all but the server."""
    try:
        return place.exists()
    except OSError:
        return False


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
