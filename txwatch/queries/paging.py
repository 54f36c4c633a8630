"""Keyset paging, and rows as values of a dataclass."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, LiteralString, TypeVar

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


DEFAULT_LIMIT = 50
MAX_LIMIT = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadCursorError(ValueError):
    """A cursor that no page gave."""


@dataclass(frozen=True)
class Position:
    """Where a page ends: the time and the key of its last row. The next page begins after it."""

    moment: datetime
    key: str

    def encode(self) -> str:
        """As it is handed out."""
        text = f"{(self.moment - _EPOCH) // _MICROSECOND}:{self.key}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> "Position":
        """The position of a cursor. Raises BadCursorError for anything but what `encode` gives."""
        try:
            text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
            moment, _, key = text.partition(":")
            position = cls(_EPOCH + int(moment) * _MICROSECOND, key)
        except (binascii.Error, ValueError, OverflowError) as error:
            raise BadCursorError("the cursor is none that a page gave") from error
        if position.encode() != cursor or "\0" in key:
            raise BadCursorError("the cursor is none that a page gave")
        return position


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, newest first. `next` is the cursor of the page after it, None on the last one."""

    items: list[T]
    next: str | None


def page_of(rows: Sequence[T], limit: int, position: Callable[[T], Position]) -> Page[T]:
    """A page of `limit` rows out of up to one more, which says whether there is another page."""
    items = list(rows[:limit])
    return Page(items, position(items[-1]).encode() if len(rows) > limit else None)


def bounds(cursor: str | None) -> dict[str, object]:
    """The bound parameters `before` and `before_key` of a statement that begins at a cursor. Raises BadCursorError."""
    if cursor is None:
        return {"before": None, "before_key": None}
    position = Position.decode(cursor)
    return {"before": position.moment, "before_key": position.key}
