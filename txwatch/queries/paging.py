"""Keyset paging, and rows as values of a dataclass.

A page begins where the one before it ended, so that rows that land meanwhile are neither repeated nor hidden.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, LiteralString, TypeVar

from psycopg.rows import kwargs_row

from txwatch.clock import EPOCH, MICROSECOND
from txwatch.store.database import Connection

T = TypeVar("T")
DEFAULT_LIMIT, MAX_LIMIT = 50, 500


class BadCursorError(ValueError):
    """A cursor that no page gave."""


@dataclass(frozen=True)
class Position:
    """Where a page ends: the time and the key of its last row. The next page begins after it."""

    moment: datetime
    key: str

    def encode(self) -> str:
        """The cursor."""
        text = f"{(self.moment - EPOCH) // MICROSECOND}:{self.key}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> "Position":
        """The position of a cursor. Raises BadCursorError for anything but what `encode` gives."""
        with suppress(ValueError, OverflowError):
            text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
            moment, _, key = text.partition(":")
            position = cls(EPOCH + int(moment) * MICROSECOND, key)
            if position.encode() == cursor and "\0" not in key:
                return position
        raise BadCursorError("the cursor is none that a page gave")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, newest first. `next` is the cursor of the page after it, None on the last one."""

    items: list[T]
    next: str | None


def page_of(rows: Sequence[T], limit: int, position: Callable[[T], Position]) -> Page[T]:
    """A page of `limit` rows out of up to one more, which says whether there is another page."""
    items = list(rows[:limit])
    return Page(items, position(items[-1]).encode() if len(rows) > limit else None)


def read_rows(
    connection: Connection, make: Callable[..., T], statement: LiteralString, parameters: Mapping[str, object]
) -> list[T]:
    """All rows of a statement, each made of its columns by name."""
    with connection.cursor(row_factory=kwargs_row(make)) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def read_page(
    connection: Connection,
    make: Callable[..., T],
    statement: LiteralString,
    filters: Mapping[str, object],
    order: tuple[str, str],
    cursor: str | None,
    limit: int,
) -> Page[T]:
    """The page of a statement that begins at a cursor. Raises BadCursorError.

    `order` names the time and the key by which rows are ordered. The statement takes, besides `filters`, `limit`, and
    the position `before`, `before_key`: None for the first page. A number is a key with leading zeros.
    """
    after = None if cursor is None else Position.decode(cursor)
    bounds = {"before": after and after.moment, "before_key": after and after.key, "limit": limit + 1}

    def position(row: T) -> Position:
        moment, key = (getattr(row, name) for name in order)
        return Position(moment, f"{key:019d}" if isinstance(key, int) else key)

    return page_of(read_rows(connection, make, statement, {**filters, **bounds}), limit, position)
