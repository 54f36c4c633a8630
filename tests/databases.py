"""The one server that a test session has, and its databases."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.errors import ObjectInUse

from txwatch.store.cluster import embedded_postgres
from txwatch.store.database import Connection
from txwatch.store.migrate import MIGRATIONS, migrate

GIVEN_DATABASE = "TXWATCH_TEST_DATABASE"
"""The environment variable with the URL of a database that all modules of a session take instead of fresh ones."""

LATEST = ScriptDirectory(str(MIGRATIONS)).get_current_head()
"""The newest revision."""
LATER = "9998"
"""That of `a_later_migration`."""

_PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "test")
_numbers = count(1)
MOST_ATTEMPTS = 20


@contextmanager
def database_server(home: Path) -> Iterator[str]:
    """A real server, with a database `template_txwatch` that holds the newest schema. Gives its URL."""
    with embedded_postgres(home) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # What tests write need not survive a crash.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("ALTER SYSTEM SET full_page_writes = off")
            # Seconds until it looks at a database again: a session has hundreds, and nobody writes into most any more.
            connection.execute("ALTER SYSTEM SET autovacuum_naptime = 300")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE DATABASE template_txwatch")
        migrate(database_named(url, "template_txwatch"))
        yield url


def database_named(server_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def database_name(database_url: str) -> str:
    """The name of the database of a URL."""
    return urlsplit(database_url).path[1:]


def copied_database(server_url: str, template: str) -> str:
    """The URL of a fresh copy of a database of the server; of `template0` it is an empty one."""
    name = f"{_PROCESS}_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        for attempt in count(1):
            # A template must have no other users, and libraries keep pools of connections.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", [template]
            )
            try:
                # The other strategy writes each page twice, into the log as well.
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
                break
            except ObjectInUse:  # a server of another test came back at once
                if attempt == MOST_ATTEMPTS:
                    raise
    return database_named(server_url, name)


_AND_THOSE_THAT_REFER = """
    WITH RECURSIVE emptied AS (
        SELECT unnest(%s::regclass[]) AS name
        UNION
        SELECT conrelid::regclass FROM pg_constraint JOIN emptied ON confrelid = name WHERE contype = 'f'
    )
    SELECT name::text FROM emptied ORDER BY name
"""


def empty_tables(connection: Connection, tables: str) -> None:
    """Delete all rows of these tables, whose names commas separate, and of those that refer to them.

    Waits as TRUNCATE CASCADE does until nobody else is at work in them. That one makes each table and index anew: for
    the few rows of a test it costs thirty times as much.
    """
    names = [sql.SQL(name) for (name,) in connection.execute(_AND_THOSE_THAT_REFER, [tables.split(", ")])]
    # In one statement: at its end none refers to another any more.
    deleted = [sql.SQL("deleted_{} AS (DELETE FROM {})").format(sql.SQL(str(n)), name) for n, name in enumerate(names)]
    statements = sql.SQL("LOCK TABLE {}; WITH {} SELECT")
    connection.execute(statements.format(sql.SQL(", ").join(names), sql.SQL(", ").join(deleted)))


def a_later_migration(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let this program know one more migration than the databases that were made so far."""
    migrations = folder / "migrations"
    shutil.copytree(MIGRATIONS, migrations)
    (migrations / "versions" / f"{LATER}_later.py").write_text(
        "from alembic import op\n\n"
        f'revision, down_revision = "{LATER}", "{LATEST}"\n\n\n'
        "def upgrade() -> None:\n"
        '    op.execute("CREATE TABLE of_a_later_version (id INTEGER)")\n'
    )
    patch.setattr("txwatch.store.migrate.MIGRATIONS", migrations)
