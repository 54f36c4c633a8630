"""A backup is one file: the whole database, and MLflow's files if they are local. The archive is no part of it.

pg_dump takes the database in one snapshot, so that a running system can be backed up. Files are copied afterwards, so
that each model in the snapshot has its file. The rows of each table are counted in the same snapshot: a drill
(`txwatch/system/drill.py`) finds as many.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from txwatch.archive.manifest import Archive
from txwatch.archive.upkeep import adopt
from txwatch.errors import UserError
from txwatch.store.cluster import server_program
from txwatch.store.database import Connection, connect, database_now, scalar, url_parts
from txwatch.store.migrate import LIBRARY_SCHEMAS, known_revisions, migrate, migrations, read_revision

DUMP, CARD = "database.dump", "backup.json"
STATE = ("history_start", "demo_history_start", "mlflow")
"""What TXWATCH_HOME holds that cannot be made again."""
_VARIABLES = {"dbname": "PGDATABASE"} | {
    name: f"PG{name.upper()}" for name in ("host", "port", "user", "password", "sslmode", "sslrootcert")
}
"""The environment variable of each part of a database's address."""


class BackupError(UserError):
    """A backup cannot be made, or cannot be restored here."""


@dataclass(frozen=True)
class BackupCard:
    """When a backup was made (ISO 8601, UTC), and of which revision of the schema and which home.

    `rows` counts those of each table; a backup of an older version has no counts.
    """

    made_at: str
    revision: str
    home: str
    rows: dict[str, int] = field(default_factory=dict)


def backup(database_url: str, home: Path, file: Path, now: datetime) -> BackupCard:
    """Write the backup to the new file `file`, whole or not at all. Raises BackupError."""
    if file.exists():
        raise BackupError(f"{file} exists; a backup overwrites nothing")
    home = home.resolve()
    half = file.with_name(f"{file.name}.part")
    try:
        with (
            connect(database_url, application="txwatch backup") as connection,
            connection.transaction(),
            tempfile.TemporaryDirectory(dir=file.parent) as folder,
        ):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            revision = read_revision(connection)
            if revision is None:
                raise BackupError("the database has no tables of txwatch's: there is nothing to back up")
            card = BackupCard(now.isoformat(), revision, str(home), count_rows(connection))
            _write(half, Path(folder), card, database_url, home, scalar(connection, "SELECT pg_export_snapshot()"))
        half.replace(file)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise BackupError(f"{file} cannot be written: {error.strerror or error}") from error
    return card


def count_rows(connection: Connection) -> dict[str, int]:
    """The rows of each table that a backup holds, by its name with its schema. The parts of a table are its own."""
    tables = connection.execute(
        "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND NOT relispartition AND relnamespace::regnamespace::text = ANY(%s) ORDER BY 1, 2",
        [["public", *LIBRARY_SCHEMAS]],
    ).fetchall()
    count = sql.SQL("SELECT count(*) FROM {}")
    return {
        f"{schema}.{table}": scalar(connection, count.format(sql.Identifier(schema, table))) for schema, table in tables
    }


def _write(file: Path, folder: Path, card: BackupCard, database_url: str, home: Path, snapshot: str) -> None:
    """Write the backup, with its parts in `folder` first. Raises OSError and BackupError."""
    dump = folder / DUMP
    what = [f"--snapshot={snapshot}", *(f"--schema={name}" for name in ("public", *LIBRARY_SCHEMAS))]
    _run("pg_dump", database_url, "--format=custom", "--no-owner", "--no-privileges", f"--file={dump}", *what)
    (folder / CARD).write_text(json.dumps(asdict(card)))
    with tarfile.open(file, "w") as archive:
        for name in (CARD, DUMP):
            archive.add(folder / name, name)
        for name in STATE:
            if (home / name).exists():
                archive.add(home / name, f"home/{name}")


def restore(database_url: str, home: Path, file: Path, days: Archive | None = None) -> BackupCard:
    """Restore into an empty database and a home without state, then bring the schema to head. Raises BackupError.

    `days` is the archive: what was archived after the backup was made is in it.
    """
    home = home.resolve()
    card = read_card(file)
    if card.revision not in known_revisions(migrations()):
        raise BackupError(
            f"the backup's schema {card.revision} is newer than this program: restore it with a newer one"
        )
    with connect(database_url, application="txwatch restore") as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = ANY(%s)", [["public", *LIBRARY_SCHEMAS]]
        ).fetchone()
    if tables and tables[0]:
        raise BackupError(f"the database has {tables[0]} tables already; restore into an empty one")
    held = [name for name in STATE if (home / name).exists()]
    if held:
        raise BackupError(f"{home} holds {held[0]} already; restore with a TXWATCH_HOME that holds no state")
    with tarfile.open(file) as archive:
        members = archive.getnames()
    if any(name.startswith("home/mlflow") for name in members) and str(home) != card.home:
        raise BackupError(f"MLflow's paths are absolute: restore with TXWATCH_HOME={card.home}")
    put_back(database_url, home, file)
    migrate(database_url)
    if days is not None:
        with connect(database_url, application="txwatch restore") as connection:
            adopt(connection, days, database_now(connection))
    return card


def put_back(database_url: str, home: Path, file: Path) -> None:
    """Fill an empty database and a home without state with what a backup holds, as it is. Raises BackupError."""
    with tarfile.open(file) as archive, tempfile.TemporaryDirectory() as folder:
        archive.extractall(folder, filter="data")
        with connect(database_url, application="txwatch restore") as connection:
            # pg_restore makes this schema, which every new database has.
            connection.execute("DROP SCHEMA IF EXISTS public")
        _run("pg_restore", database_url, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
             str(Path(folder) / DUMP))  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        for state in (Path(folder) / "home").glob("*"):
            shutil.move(state, home / state.name)


def read_card(file: Path) -> BackupCard:
    """The card of a backup. Raises BackupError."""
    try:
        with tarfile.open(file) as archive:
            member = archive.extractfile(CARD)
            values: Mapping[str, Any] = json.loads(member.read()) if member else {}
        return BackupCard(**values)
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{file} is no backup of txwatch's: {error}") from None


def _run(program: str, database_url: str, *arguments: str) -> None:
    # Not as arguments, which other users of the machine can see.
    parts = url_parts(database_url)
    environment = {variable: str(parts[key]) for key, variable in _VARIABLES.items() if parts.get(key)}
    if passwords := os.environ.get("PGPASSFILE"):
        environment["PGPASSFILE"] = passwords
    database = ["--dbname", str(parts.get("dbname") or "postgres")] if program == "pg_restore" else []
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
        [str(server_program(program)), *database, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{program} failed: {done.stderr.strip()}")
