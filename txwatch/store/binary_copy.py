"""COPY of numbers in PostgreSQL's binary format, laid out by numpy: many times faster than text, row by row.

The format is that of PostgreSQL's manual, "COPY, Binary Format": a header; for each row the number of its fields and
for each field its length and its bytes, big-endian; and a trailer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from txwatch.store.database import Connection

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
