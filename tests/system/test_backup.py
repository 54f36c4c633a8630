"""A backup restored into an empty server holds every row of every table, and what is in its way is said."""

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.archive.filled import DAY, NEXT, fill_day
from tests.conftest import database_named
from tests.databases import LATER, a_later_migration, copied_database
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.archive.manifest import Archive
from txwatch.archive.query import ask
from txwatch.archive.writing import archive_day
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.cluster import embedded_postgres
from txwatch.store.database import connect
from txwatch.store.migrate import migrate
from txwatch.system.backup import BackupError, backup, read_card, restore
from txwatch.system.history import land_history

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)

Rows = dict[str, list[str]]


def contents(database_url: str) -> Rows:
    """Every row of every table of ours and of the libraries, as text, and where each sequence stands."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        ).fetchall()
        rows: Rows = {}
        for (table,) in tables:
            found = connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1").fetchall()  # type: ignore[arg-type]  # noqa: S608
            rows[table] = [row[0] for row in found]
        rows["sequences"] = [
            str(row)
            for row in connection.execute("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2")
        ]
    return rows


@pytest.fixture(scope="module")
def filled(database_url: str) -> str:
    """A database with transactions, a table of a library's with a sequence, and all that migrations make."""
    land_history(database_url, Simulator("2024-03", seed=3, start=START), NOW)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE dagster.runs (id bigserial PRIMARY KEY, body text)")
        connection.execute("INSERT INTO dagster.runs (body) VALUES ('first'), ('with ''quotes''')")
        connection.execute(
            "INSERT INTO quarantined_messages (received_at, reason, size, body) VALUES (now(), 'odd', 3, '\\x00ff0a')"
        )
    return database_url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the state that a backup keeps, and a log, which it does not."""
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True)
    (home / "demo_history_start").write_text(NOW.isoformat())
    (home / "logs" / "code.log").write_text("noise")
    return home


def test_every_row_comes_back_in_an_empty_server(filled: str, home: Path, tmp_path: Path) -> None:
    card = backup(filled, home, tmp_path / "today.tar", NOW)
    assert card == read_card(tmp_path / "today.tar")
    before = contents(filled)
    assert len(before["public.transactions"]) > 1_000

    with embedded_postgres(tmp_path / "other") as other:
        restore(other, tmp_path / "new-home", tmp_path / "today.tar")
        assert contents(other) == before

    restored = {path.name: path.read_text() for path in (tmp_path / "new-home").iterdir()}
    assert restored == {"demo_history_start": NOW.isoformat()}
    assert not list(tmp_path.glob("*.part"))


def test_a_backup_of_an_older_schema_is_brought_to_the_newest(
    server_url: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = []
    for name in ("backup_older", "backup_target"):
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        urls.append(database_named(server_url, name))
    older, target = urls
    migrate(older)
    backup(older, home, tmp_path / "older.tar", NOW)
    a_later_migration(tmp_path, monkeypatch)
    restore(target, tmp_path / "new-home", tmp_path / "older.tar")
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(LATER,)]
        assert connection.execute("SELECT count(*) FROM of_a_later_version").fetchone() == (0,)


def test_a_restore_takes_the_archive_as_it_is(server_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive", tmp_path / "work")
    url = copied_database(server_url, "template_txwatch")
    with connect(url) as connection:
        fill_day(connection)
        archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
        backup(url, tmp_path / "home", tmp_path / "backup.tar", NOW)
        fill_day(connection, NEXT)
        archive_day(connection, archive, TRANSACTIONS, NEXT, NOW)
    empty = copied_database(server_url, "template0")
    restore(empty, tmp_path / "home", tmp_path / "backup.tar", archive)
    counted = "SELECT seen_at::DATE AS day, count(*) AS n FROM transactions GROUP BY 1 ORDER BY 1"
    with ask(empty, archive, counted) as answer:
        found = [row for batch in answer.batches for row in batch.to_pylist()]
    assert found == [{"day": DAY, "n": 40}, {"day": NEXT, "n": 40}]


def test_nothing_is_overwritten(filled: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "today.tar"
    backup(filled, home, file, NOW)
    with pytest.raises(BackupError, match="overwrites nothing"):
        backup(filled, home, file, NOW)
    with pytest.raises(BackupError, match="restore into an empty one"):
        restore(filled, tmp_path / "new-home", file)


def test_a_backup_that_cannot_be_written_leaves_nothing(
    filled: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupError, match=r"nowhere/today\.tar cannot be written: No such file"):
        backup(filled, home, tmp_path / "nowhere" / "today.tar", NOW)

    def add(*arguments: object) -> None:
        if arguments[-1] != "backup.json":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", add)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BackupError, match=r"today\.tar cannot be written: No space left"):
        backup(filled, home, tmp_path / "today.tar", NOW)
    assert sorted(tmp_path.iterdir()) == before


def test_a_home_with_state_is_left_alone(server_url: str, filled: str, home: Path, tmp_path: Path) -> None:
    backup(filled, home, tmp_path / "today.tar", NOW)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_untouched")
    empty = database_named(server_url, "backup_untouched")
    with pytest.raises(BackupError, match="holds demo_history_start already"):
        restore(empty, home, tmp_path / "today.tar")
    assert contents(empty) == {"sequences": []}


def test_local_models_are_kept_and_only_restored_where_their_paths_lead(
    server_url: str, filled: str, home: Path, tmp_path: Path
) -> None:
    model = home / "mlflow/artifacts/1/model.skops"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"a model")
    backup(filled, home, tmp_path / "today.tar", NOW)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_models")
    empty = database_named(server_url, "backup_models")
    with pytest.raises(BackupError, match=f"TXWATCH_HOME={home}"):
        restore(empty, tmp_path / "elsewhere", tmp_path / "today.tar")
    home.rename(tmp_path / "lost")
    restore(empty, home, tmp_path / "today.tar")
    assert model.read_bytes() == b"a model"


def test_a_database_without_tables_is_no_backup(server_url: str, home: Path, tmp_path: Path) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_nothing")
    with pytest.raises(BackupError, match="nothing to back up"):
        backup(database_named(server_url, "backup_nothing"), home, tmp_path / "today.tar", NOW)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_another_file_is_refused(database_url: str, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "other.tar"
    if content is None:
        with tarfile.open(file, "w") as archive:
            archive.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    else:
        file.write_bytes(content)
    with pytest.raises(BackupError, match="is no backup of txwatch's"):
        restore(database_url, tmp_path / "home", file)


def test_a_newer_backup_is_refused_before_anything_changes(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "newer.tar"
    card = b'{"made_at": "2030-01-01T00:00:00+00:00", "revision": "9999", "home": "/"}'
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo("backup.json")
        member.size = len(card)
        archive.addfile(member, io.BytesIO(card))
    with pytest.raises(BackupError, match="newer than this program"):
        restore(database_url, tmp_path / "home", file)
