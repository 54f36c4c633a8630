"""A role of the database for each service, with what that service needs and no more.

Whoever migrates owns the tables, and makes and grants the roles again after each migration. A service that does not
migrate logs in as its own role: it can change no schema, and read or write only what is listed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from txwatch.store.database import Connection, scalar
from txwatch.store.locks import Lock, wait_for
from txwatch.store.migrate import LIBRARY_SCHEMAS

OURS = "public"
PREFIX = "txwatch_"
"""The role of the service `bot` is txwatch_bot."""
PASSWORD_FILE = "database_"  # noqa: S105 - the beginning of a file's name
"""The password of the service `bot` is in the file database_bot."""


@dataclass(frozen=True)
class Rights:
    """What a role may do: schemas of which it reads all tables, those of which it changes all, and tables of ours."""

    reads: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    """Tables of ours in which it inserts, updates and deletes."""
    hidden: tuple[str, ...] = ()
    """Tables of ours that it does not even read."""
    counts: tuple[str, ...] = ()
    """Sequences of ours from which it takes numbers."""
    owns: str | None = None
    """A schema whose tables it makes and migrates itself."""
    makes: tuple[str, ...] = ()
    """Schemas in which it makes tables and drops them. Only their owner can do so with the days of our tables."""


_CHATS = ("alert_deliveries", "feedback", "telegram_bot", "channels", "channel_requests")
_PEOPLE = ("api_keys", "case_events", "changes")
_OF_CHANNELS = ("channels", "channel_secrets", "channel_requests")
_SECRETS = ("channel_secrets", "api_keys")
RIGHTS = {
    # Its runs land, score, alert, and drop what is too old. Feast joins a training's rows in a table that it makes.
    "code": Rights(changes=("public", "dagster", "feast"), makes=("public", "feast")),
    "webserver": Rights(changes=("dagster",)),
    "daemon": Rights(changes=("dagster",)),
    "mlflow": Rights(owns="mlflow"),
    "api": Rights(
        reads=("public", "dagster", "feast"),
        tables=(
            "feedback",
            "rules",
            "channels",
            "channel_secrets",
            "channel_requests",
            "alert_stream",
            "promotions",
            *_PEOPLE,
        ),
        counts=("alert_stream_numbers",),
    ),
    "dashboard": Rights(reads=("public",), hidden=_SECRETS),
    "bot": Rights(reads=("public",), tables=(*_CHATS, "case_events", "changes"), hidden=_SECRETS),
}
"""By service, as docker-compose.yml names them."""


def read_passwords(folder: Path) -> dict[str, str]:
    """The password of each service that has one in the folder."""
    files = {service: folder / f"{PASSWORD_FILE}{service}" for service in RIGHTS}
    found = {service: file.read_text().strip() for service, file in files.items() if file.exists()}
    return {service: password for service, password in found.items() if password}


def grant_roles(connection: Connection, passwords: Mapping[str, str]) -> None:
    """Make the roles of these services, and give them their passwords and rights. Safe to repeat.

    What a role had and no longer needs is taken back. Needs a role that may make others, and owns the tables.
    """
    with connection.transaction():
        wait_for(connection, Lock.MIGRATION)
        for service, password in passwords.items():
            role = sql.Identifier(PREFIX + service)
            for query in (*_login(connection, PREFIX + service, password), *_rights(connection, role, RIGHTS[service])):
                connection.execute(query)


def _login(connection: Connection, name: str, password: str) -> Iterator[sql.Composed]:
    role = sql.Identifier(name)
    if scalar(connection, "SELECT count(*) FROM pg_roles WHERE rolname = %s", [name]) == 0:
        yield sql.SQL("CREATE ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE").format(role)
        # To hand tables over to it, whoever is no superuser must be a member.
        yield sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE").format(role)
    # The server gets the password's hash, so that no log of statements holds it.
    encoding = connection.info.encoding
    verifier = connection.pgconn.encrypt_password(password.encode(encoding), name.encode(encoding), b"scram-sha-256")
    yield sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(verifier.decode()))


def _rights(connection: Connection, role: sql.Identifier, rights: Rights) -> Iterator[sql.Composed]:
    for schema in (OURS, *LIBRARY_SCHEMAS):
        place = {"role": role, "schema": sql.Identifier(schema)}
        for kind in (sql.SQL("TABLES"), sql.SQL("SEQUENCES")):
            yield sql.SQL("REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {role}").format(kind=kind, **place)
        allowed = "SELECT" if schema in rights.reads else ""
        if schema in rights.changes:
            allowed = "SELECT, INSERT, UPDATE, DELETE"
            yield sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}").format(**place)
        if schema == rights.owns:
            allowed = "ALL"
            yield sql.SQL("ALTER SCHEMA {schema} OWNER TO {role}").format(**place)
            yield sql.SQL("GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}").format(**place)
        if allowed:
            yield sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {role}").format(**place)
            granted = sql.SQL(allowed)
            yield sql.SQL("GRANT {granted} ON ALL TABLES IN SCHEMA {schema} TO {role}").format(granted=granted, **place)
    if rights.tables:
        tables = sql.SQL(", ").join(sql.Identifier(OURS, table) for table in rights.tables)
        yield sql.SQL("GRANT INSERT, UPDATE, DELETE ON {} TO {}").format(tables, role)
    for table in rights.hidden:
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(OURS, table), role)
    for sequence in rights.counts:
        yield sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(sql.Identifier(OURS, sequence), role)
    for schema in rights.makes:
        yield sql.SQL("GRANT CREATE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role)
    for table in connection.execute(_TO_HAND_OVER, {"owns": rights.owns, "days": OURS in rights.makes, "ours": OURS}):
        yield sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(*table), role)


_TO_HAND_OVER = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relowner = current_user::regrole
  AND (nspname = %(owns)s AND relkind = 'r'
       OR %(days)s AND nspname = %(ours)s AND (relkind = 'p' OR relispartition AND relkind = 'r'))
ORDER BY 1, 2
"""
"""The tables that a role must own and does not yet; a change of the owner waits for all who use the table."""
