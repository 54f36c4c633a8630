"""Rows of a statement as values of a dataclass, by the names of its columns."""

from collections.abc import Mapping
from typing import Any, LiteralString, TypeVar

from psycopg.rows import class_row, dict_row

from txwatch.store.database import Connection

T = TypeVar("T")


def rows_as(
    connection: Connection, row: type[T], statement: LiteralString, parameters: Mapping[str, object] | None = None
) -> list[T]:
    """All rows. The statement's columns are the fields of `row`."""
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(statement, parameters or {}).fetchall()


def dicts(
    connection: Connection, statement: LiteralString, parameters: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    """All rows by column, where a field is made of a column's contents."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, parameters or {}).fetchall()
