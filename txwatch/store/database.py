"""Connections to Postgres, the forms of its URL, SQL kept in files, and binary COPY.

The format is that of PostgreSQL's manual, "COPY, Binary Format": a header; for each row the number of its fields and
for each field its length and its bytes, big-endian; and a trailer.
"""

import atexit
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

PACKAGE = Path(__file__).parents[1]


@cache
def statement(package: str, name: str) -> LiteralString:
    """The SQL of a name in `queries.sql` of a package of txwatch. Values are bound, never formatted in."""
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


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the psycopg 3 driver named. Raises ValueError for anything but PostgreSQL."""
    scheme, separator, rest = database_url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def libpq_url(database_url: str) -> str:
    """The URL as libpq reads it, without a driver's name. Raises ValueError for anything but PostgreSQL."""
    return sqlalchemy_url(database_url).replace("postgresql+psycopg://", "postgresql://", 1)


Connection = psycopg.Connection[Any]

MAX_POOLS = 8
"""Pools that a process keeps; it has one or two databases, and a purpose or two for each."""

_pools: dict[tuple[int, str, str, int], ConnectionPool[Connection]] = {}
_pools_lock = threading.Lock()


def open_connection(database_url: str, *, application: str = "txwatch") -> Connection:
    """One connection in autocommit, so that every transaction is explicit: `with connection.transaction()`.

    Times come back in UTC whatever the server's zone. Raises psycopg.OperationalError when the server is away.
    """
    return psycopg.connect(libpq_url(database_url), **_parameters(database_url, application))


@contextmanager
def connect(database_url: str, *, application: str = "txwatch") -> Iterator[Connection]:
    """The same, closed at the end of the block."""
    with open_connection(database_url, application=application) as connection:
        yield connection


def connection_pool(
    database_url: str,
    *,
    application: str,
    max_size: int,
    min_size: int = 0,
    wait_seconds: float = 10.0,
    options: str = "",
) -> ConnectionPool[Connection]:
    """A pool of such connections, not open yet; each is tried before it is given out, and left as it was opened.

    `options` are libpq's, such as `-c statement_timeout=30s`. Whoever finds none free within `wait_seconds` gets
    psycopg_pool.PoolTimeout, a psycopg.OperationalError.
    """
    return ConnectionPool(
        libpq_url(database_url),
        min_size=min_size,
        max_size=max_size,
        timeout=wait_seconds,
        open=False,
        check=ConnectionPool.check_connection,
        # Temporary tables and settings of the block before must not be there in the next.
        reset=_leave_as_opened,
        kwargs=_parameters(database_url, application, options),
    )


def _parameters(database_url: str, application: str, options: str = "") -> dict[str, Any]:
    """How each connection is opened. The options that the URL gives stay."""
    given = conninfo_to_dict(libpq_url(database_url)).get("options") or ""
    return {
        "autocommit": True,
        "connect_timeout": 10,
        "application_name": application,
        "options": f"{given} -c timezone=UTC {options}".strip(),
        # Without these a connection to a host that vanished would be waited for some minutes.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def process_pool(database_url: str, *, application: str, max_size: int = 8) -> ConnectionPool[Connection]:
    """The pool that this process has for a database and a purpose: made when it is asked for first, and kept.

    A process that was forked from another has pools of its own. Of more than MAX_POOLS the one that was asked for
    longest ago is closed.
    """
    key = (os.getpid(), database_url, application, max_size)
    with _pools_lock:
        pool = _pools.pop(key, None)
        if pool is None:
            pool = connection_pool(database_url, application=application, max_size=max_size)
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


def _leave_as_opened(connection: Connection) -> None:
    # Not DISCARD ALL: it also drops the statements that psycopg has prepared, and believes to be there.
    connection.execute("DISCARD TEMP; RESET ALL")


def database_now(connection: Connection) -> datetime:
    """The present moment by the database's clock, UTC: the one clock that all machines share."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    if row is None:
        raise LookupError("the database gave no time")
    moment: datetime = row[0]
    return moment


def commit_without_waiting(connection: Connection) -> None:
    """Let the open transaction's commit not wait for the disk: for all but the last of many that follow each other.

    A commit that waits, waits for all that were before it: once the last has returned, all survive a crash.
    """
    connection.execute("SET LOCAL synchronous_commit = off")


_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, from which PostgreSQL counts microseconds."""


@dataclass(frozen=True)
class BinaryColumn:
    """One column without NULLs, whose values all have the same width: `dtype` is the form that they are sent in."""

    name: str
    values: NDArray[Any]
    dtype: str

    @classmethod
    def text(cls, name: str, values: Sequence[str], width: int) -> "BinaryColumn":
        """Texts of exactly `width` ASCII characters. Raises ValueError for any other."""
        if any(len(value) != width for value in values):
            raise ValueError(f"a {name} is not {width} characters long")
        return cls(name, np.array(values, f"S{width}"), f"S{width}")

    @classmethod
    def times(cls, name: str, us: NDArray[np.int64]) -> "BinaryColumn":
        """timestamptz, from microseconds since 1970 UTC."""
        return cls(name, us - _POSTGRES_EPOCH_US, ">i8")

    @classmethod
    def integers(cls, name: str, values: NDArray[np.int64]) -> "BinaryColumn":
        """BIGINT."""
        return cls(name, values, ">i8")

    @classmethod
    def floats(cls, name: str, values: NDArray[np.float64]) -> "BinaryColumn":
        """double precision; NaN stays NaN."""
        return cls(name, values, ">f8")


def copy_rows(connection: Connection, table: str, columns: Sequence[BinaryColumn]) -> None:
    """Append rows to a table, in the caller's transaction. All columns have the same length."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for i, column in enumerate(columns):
        fields += [(f"length_{i}", ">i4"), (f"value_{i}", column.dtype)]
    rows = np.empty(len(columns[0].values), np.dtype(fields))
    rows["fields"] = len(columns)
    for i, column in enumerate(columns):
        rows[f"length_{i}"] = rows.dtype[f"value_{i}"].itemsize
        rows[f"value_{i}"] = column.values
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table), names)
    with connection.cursor().copy(statement) as copy:
        copy.write(_HEADER)
        copy.write(rows.tobytes())
        copy.write(_TRAILER)
