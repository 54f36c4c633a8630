"""Bring the database to the newest schema, as `txwatch migrate` does; safe to run at any time.

Alembic is imported where it is used: what only connects to the database does without its 20 MB.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from txwatch.errors import UserError
from txwatch.store.database import Connection, connect, scalar, sqlalchemy_url, table_exists
from txwatch.store.locks import Lock, wait_for

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).with_name("migrations")
LIBRARY_SCHEMAS = ("dagster", "feast", "mlflow")
"""Schemas of the libraries' tables; ours are in `public`."""


class SchemaTooNewError(UserError):
    """A newer program has made the tables."""


NEWER = "a newer txwatch made it. Install that version, or restore a backup from before it with this one."
TOO_NEW = f"which this program does not know: {NEWER}"


def migrate(database_url: str) -> None:
    """Create the schemas of the libraries, and upgrade ours to head, one at a time. Raises SchemaTooNewError."""
    from alembic import command

    with connect(database_url, application="txwatch migrate") as connection, connection.transaction():
        wait_for(connection, Lock.MIGRATION)
        current = read_revision(connection)
        if current is not None and current not in known_revisions(migrations()):
            raise SchemaTooNewError(f"the database's schema is {current}, {TOO_NEW}")
        for schema in LIBRARY_SCHEMAS:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        command.upgrade(alembic_config(database_url), "head")


def read_revision(connection: Connection, schema: str = "public") -> str | None:
    """The revision of the tables in a schema, None if there are none."""
    if not table_exists(connection, f"{schema}.alembic_version"):
        return None
    query = sql.SQL("SELECT version_num FROM {}.alembic_version").format(sql.Identifier(schema))
    revision: str | None = scalar(connection, query)
    return revision


def migrations() -> "ScriptDirectory":
    """Those of our own tables."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(MIGRATIONS))


def known_revisions(scripts: "ScriptDirectory") -> set[str]:
    """The revisions that there are migrations of."""
    return {script.revision for script in scripts.walk_revisions()}


def alembic_config(database_url: str) -> "Config":
    """Alembic's configuration for one database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = sqlalchemy_url(database_url)
    return config
