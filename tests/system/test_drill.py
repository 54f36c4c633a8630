"""A drill finds in a restored backup what was backed up, or says what is missing, and leaves nothing behind."""

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import connect, scalar
from txwatch.system.backup import CARD, BackupError, backup, read_card
from txwatch.system.drill import drill
from txwatch.system.history import land_history

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START = datetime(2026, 3, 1, 11, 50, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(database_url: str) -> str:
    """A database with ten minutes of transactions."""
    land_history(database_url, Simulator("2024-03", seed=3, start=START), NOW)
    return database_url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a model and a folder for backups."""
    home = tmp_path / "home"
    (home / "backups").mkdir(parents=True)
    (home / "mlflow").mkdir()
    (home / "mlflow/model").write_text("a model")
    return home


def with_rows(file: Path, **counts: int | None) -> None:
    """Let a backup's card count these tables otherwise; None of all leaves no counts, as in an older one."""
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        kept = [(member, content.read() if content else b"") for member, content in members]
    card = json.loads(next(content for member, content in kept if member.name == CARD))
    if counts:
        card["rows"] |= {f"public.{table}": count for table, count in counts.items()}
    else:
        del card["rows"]
    with tarfile.open(file, "w") as archive:
        for member, content in kept:
            changed = json.dumps(card).encode() if member.name == CARD else content
            member.size = len(changed) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(changed) if member.isfile() else None)


def test_a_drill_restores_the_newest_file_and_finds_every_row(filled: str, home: Path) -> None:
    backup(filled, home, home / "backups/older.tar", NOW)
    with connect(filled) as connection:
        rows = scalar(connection, "SELECT count(*) FROM transactions")
        newest = scalar(connection, "SELECT max(seen_at) FROM transactions")
    (home / "backups/older.tar").touch()
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    found = drill(filled, home)
    assert found.file == "older.tar"
    assert {table: (was, now) for table, was, now in found.tables}["public.transactions"] == (rows, rows)
    assert rows > 1_000
    assert (found.differing, found.files, found.newest) == ([], 1, newest)
    assert found.card == read_card(home / "backups/older.tar")
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before


def test_what_did_not_come_back_whole_is_named(filled: str, home: Path) -> None:
    backup(filled, home, home / "backups/a.tar", NOW)
    with_rows(home / "backups/a.tar", transactions=7, gone=1)
    assert drill(filled, home).differing == ["public.gone", "public.transactions"]


def test_a_backup_of_an_older_version_is_restored_without_counts_to_compare(filled: str, home: Path) -> None:
    backup(filled, home, home / "backups/a.tar", NOW)
    with_rows(home / "backups/a.tar")
    found = drill(filled, home)
    assert found.differing == []
    assert {was for _, was, _ in found.tables} == {None}


def test_without_a_file_one_is_made_and_not_kept(filled: str, home: Path) -> None:
    found = drill(filled, home)
    assert found.differing == []
    assert sorted(path.name for path in home.iterdir()) == ["backups", "mlflow"]
    assert not list((home / "backups").iterdir())


def test_a_file_that_is_no_backup_is_an_error_and_leaves_nothing(filled: str, home: Path) -> None:
    (home / "backups/broken.tar").write_bytes(b"no archive")
    with pytest.raises(BackupError, match="no backup of txwatch's"):
        drill(filled, home)
    assert sorted(path.name for path in home.iterdir()) == ["backups", "mlflow"]
