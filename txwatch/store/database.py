"""Connections to Postgres, the forms of its URL, and SQL kept in files."""

import atexit
import os
import re
import threading
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, LiteralString, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from txwatch.errors import UserError

PACKAGE = Path(__file__).parents[1]
_T = TypeVar("_T")


@cache
def statement(package: str, name: str) -> LiteralString:
    """The named SQL in `queries.sql` of a package of txwatch. Values are bound, never formatted in."""
    return _statements(package)[name]


@cache
def _statements(package: str) -> dict[str, LiteralString]:
    blocks = re.split(r"^-- name: (\w+)\n", (PACKAGE / package / "queries.sql").read_text(), flags=re.MULTILINE)
    return dict(zip(blocks[1::2], blocks[2::2], strict=True))


def with_schema(database_url: str, schema: str) -> str:
    """The URL of the same database with `schema` as the search path, for libraries that name no schema."""
    parts = urlsplit(database_url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "options"]
    query.append(("options", f"-csearch_path={schema}"))
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


class DatabaseUrlError(UserError, ValueError):
    """DATABASE_URL cannot be read. The message holds nothing of it: libpq's own quotes the password."""


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the psycopg 3 driver named. Raises DatabaseUrlError for anything but PostgreSQL."""
    scheme, separator, rest = database_url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise DatabaseUrlError("DATABASE_URL must begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def libpq_url(database_url: str) -> str:
    """The URL as libpq reads it, without a driver's name. Raises DatabaseUrlError for anything but PostgreSQL."""
    return sqlalchemy_url(database_url).replace("postgresql+psycopg://", "postgresql://", 1)


def url_parts(database_url: str) -> dict[str, Any]:
    """The parts of the URL by libpq's names for them. Raises DatabaseUrlError."""
    parts: dict[str, Any] = {}
    with suppress(psycopg.ProgrammingError):
        parts = conninfo_to_dict(libpq_url(database_url))
    host = str(parts.get("host") or "")
    # What stands before an @ in a host's name is the end of a password. The folder of a socket may have one.
    if not parts or ("@" in host and not host.startswith(("/", "@"))):
        said = "DATABASE_URL cannot be read: write special characters of its password as % and two hex digits"
        raise DatabaseUrlError(f"{said}, and name no parameter that libpq does not know")
    return parts


Connection = psycopg.Connection[Any]

VANISHED_SECONDS = 30
"""Seconds in which the other machine answers nothing, or takes nothing of what is sent, before it counts as gone."""
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
"""They ask it in silence; seconds, and how often. Only the time out notices it in the middle of what is sent."""
MAX_POOLS = 8
"""Pools of one process, which has one or two databases and a purpose or two for each."""

_pools: dict[tuple[int, str, str], ConnectionPool[Connection]] = {}
_pools_lock = threading.Lock()


def connect(database_url: str, *, application: str = "txwatch") -> Connection:
    """A connection in autocommit, with times in UTC; a `with` block closes it.

    Raises psycopg.OperationalError when the server is away.
    """
    return psycopg.connect(libpq_url(database_url), **parameters(database_url, application))


def connection_pool(
    database_url: str,
    *,
    application: str,
    max_size: int,
    min_size: int = 0,
    wait_seconds: float = 10.0,
    options: str = "",
) -> ConnectionPool[Connection]:
    """A pool of connections, not open yet; each is checked before it is given out, and reset afterwards.

    `options` are libpq's, such as `-c statement_timeout=30s`. If none is free within `wait_seconds`, raises
    psycopg_pool.PoolTimeout, a psycopg.OperationalError.
    """
    return ConnectionPool(
        libpq_url(database_url),
        min_size=min_size,
        max_size=max_size,
        timeout=wait_seconds,
        open=False,
        check=ConnectionPool.check_connection,
        reset=_reset,
        kwargs=parameters(database_url, application, options),
    )


def parameters(database_url: str, application: str, options: str = "") -> dict[str, Any]:
    """The parameters of a connection, with the options in the URL.

    Client and server end it VANISHED_SECONDS after the other's machine vanished: a query would wait for some minutes
    otherwise, and the server would keep the locks of who is gone for hours.
    """
    given = url_parts(database_url).get("options") or ""
    alive = " ".join(f"-c tcp_{name}={value}" for name, value in _KEEPALIVES.items())
    return {
        "autocommit": True,
        "connect_timeout": 10,
        "application_name": application,
        "options": f"{given} -c timezone=UTC {alive} -c tcp_user_timeout={VANISHED_SECONDS}s {options}".strip(),
        "tcp_user_timeout": VANISHED_SECONDS * 1_000,
        **_KEEPALIVES,
    }


def process_pool(database_url: str, *, application: str) -> ConnectionPool[Connection]:
    """The pool of this process for a database and a purpose; beyond MAX_POOLS the least recently used is closed."""
    key = (os.getpid(), database_url, application)
    with _pools_lock:
        pool = _pools.pop(key, None)
        if pool is None:
            pool = connection_pool(database_url, application=application, max_size=8)
            pool.open()
        _pools[key] = pool
        if len(_pools) > MAX_POOLS:
            _pools.pop(next(iter(_pools))).close()
    return pool


@atexit.register
def _close_pools() -> None:
    for (process, *_), pool in _pools.items():
        if process == os.getpid():
            pool.close()


def _reset(connection: Connection) -> None:
    # Not DISCARD ALL: it would also drop the statements that psycopg has prepared and counts on.
    connection.execute("DISCARD TEMP; RESET ALL")


def database_now(connection: Connection) -> datetime:
    """The present moment, UTC, by the database's clock, which all machines share."""
    moment: datetime = scalar(connection, "SELECT clock_timestamp()")
    return moment


def scalar(connection: Connection, query: LiteralString | sql.Composed, values: Params | None = None) -> Any:
    """The first value of the first row, None without rows."""
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None


def read_rows(connection: Connection, row: type[_T], query: LiteralString, values: Params | None = None) -> list[_T]:
    """The rows of a query as objects of the class `row`, whose fields are the columns."""
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(query, values).fetchall()


def storable(text: str) -> str:
    """The text as a column takes it: without U+0000, and without half a character."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def table_exists(connection: Connection, name: str) -> bool:
    """Whether there is a table of this name, with or without a schema."""
    # Locking pg_class lets go what is cached of names: another process may have made the table since it was looked for.
    return bool(scalar(connection, "SELECT count(*) FROM pg_class WHERE oid = to_regclass(%s)", [name]))


def commit_without_waiting(connection: Connection) -> None:
    """Let this transaction's commit not wait for the disk. It is durable once a later commit, which waits, returns."""
    connection.execute("SET LOCAL synchronous_commit = off")
