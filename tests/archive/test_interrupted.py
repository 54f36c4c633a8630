"""A day that is killed half-way or finds no room is as it was before, and is whole after the next try."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.archive.filled import DAY, fill_day
from tests.archive.test_writing import NOW, archived
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.archive.days import read_day
from txwatch.archive.manifest import Archive, Manifest
from txwatch.archive.writing import archive_day
from txwatch.store.database import Connection

KILLED_AT = """
import os, signal, sys
from datetime import UTC, date, datetime
from pathlib import Path
from txwatch.archive import manifest, writing
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.store.database import connect

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

url, place, work, module, name = sys.argv[1:]
owner = {"writing": writing, "Archive": manifest.Archive, "ParquetWriter": writing.pq.ParquetWriter}.get(module)
if owner is not None:
    setattr(owner, name, die)
print("begun", flush=True)
with connect(url) as connection:
    archive = manifest.Archive(Path(place), Path(work))
    writing.archive_day(connection, archive, TRANSACTIONS, date(2024, 3, 14), datetime(2024, 3, 16, tzinfo=UTC))
"""
POINTS = {
    "before anything": ("writing", "begin_day"),
    "before the first row": ("writing", "_rows"),
    "while rows are written": ("ParquetWriter", "write_table"),
    "before the file is on disk": ("writing", "sync"),
    "before it is read back": ("writing", "read_parquet"),
    "before it has its name": ("Archive", "publish"),
    "before the manifest": ("Archive", "name"),
    "before the database knows": ("writing", "record_day"),
}


def process(database_url: str, archive: Archive, module: str, name: str) -> subprocess.Popen[bytes]:
    arguments = [database_url, str(archive.place), str(archive.work), module, name]
    return subprocess.Popen([sys.executable, "-c", KILLED_AT, *arguments], stdout=subprocess.PIPE)


def files(archive: Archive) -> set[str]:
    assert isinstance(archive.place, Path)
    return {path.name for path in archive.place.rglob("*") if path.is_file()}


def is_whole(archive: Archive, manifest: Manifest) -> None:
    assert archive.manifest(TRANSACTIONS, DAY) == manifest
    assert len(archived(archive, TRANSACTIONS)) == manifest.rows


@pytest.mark.parametrize("point", POINTS)
def test_a_day_that_is_killed_is_neither_lost_nor_doubled(
    database_url: str, connection: Connection, archive: Archive, point: str
) -> None:
    fill_day(connection)
    first = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    fill_day(connection, rows=2, seed=2)
    killed = process(database_url, archive, *POINTS[point])
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    found = read_day(connection, TRANSACTIONS, DAY)
    assert found is not None
    assert not found.complete, "it is asked for again"
    assert found.manifest == first
    if point == "before the database knows":
        named = archive.manifest(TRANSACTIONS, DAY)
        assert named is not None
        assert named.rows == 42
    else:
        is_whole(archive, first)
    again = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert (again.rows, again.stored_rows) == (42, 42)
    is_whole(archive, again)
    assert read_day(connection, TRANSACTIONS, DAY).complete  # type: ignore[union-attr]
    assert files(archive) <= {f"{DAY}.json", first.file, again.file}, "no part of the killed run is left"


@pytest.mark.soak
def test_a_day_that_is_killed_at_any_moment_is_neither_lost_nor_doubled(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    random = Random(os.environ.get("TXWATCH_SEED", "1"))  # noqa: S311 - repeatable
    rows = 2_000
    fill_day(connection, rows=rows)
    for n in range(10):
        running = process(database_url, archive, "", "")
        assert running.stdout is not None
        running.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            running.wait(random.uniform(0, 1.5))  # or it has come to its end before
        running.kill()
        running.communicate(timeout=300)
        fill_day(connection, rows=1, seed=n + 10)
        named = archive.manifest(TRANSACTIONS, DAY)
        if named is not None:
            assert len(archived(archive, TRANSACTIONS)) == named.rows
        whole = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
        assert whole.rows == whole.stored_rows == rows + n + 1
        is_whole(archive, whole)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size, if this process may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(connection: Connection, tmp_path: Path) -> None:
    fill_day(connection)
    with small_disk(tmp_path / "small", 64) as place:
        archive = Archive(place, tmp_path / "work")
        first = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
        fill_day(connection, rows=2_000, seed=2)
        with pytest.raises(OSError, match="No space left") as full:
            archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
        assert full.value.errno == errno.ENOSPC
        is_whole(archive, first)
        assert files(archive) == {f"{DAY}.json", first.file}
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        assert archive_day(connection, archive, TRANSACTIONS, DAY, NOW).rows == 2_040
