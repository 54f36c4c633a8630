"""A checksum of rows that does not depend on their order, nor on where they are: in Postgres or in a file.

Each row has a hash of 64 bits, and the checksum is their sum: rows can be compared that are sorted differently, and the
checksum of two parts is the sum of theirs (Clarke et al., Incremental Multiset Hash Functions, ASIACRYPT 2003,
MSet-Add-Hash). It finds faults, not forgers; the SHA-256 of a file is beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_NULL = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""What leaves of a word its first bytes, as many as the place says."""


@dataclass(frozen=True)
class Content:
    """What rows amount to: their number, and the sum of their hashes modulo 2**64."""

    rows: int = 0
    sum: int = 0

    def __add__(self, other: "Content") -> "Content":
        return Content(self.rows + other.rows, (self.sum + other.sum) % 2**64)

    @property
    def checksum(self) -> str:
        """The sum as 16 hex digits."""
        return f"{self.sum:016x}"


def content(tables: Iterable[pa.Table]) -> Content:
    """The content of tables together."""
    return sum(map(content_of, tables), Content())


def content_of(table: pa.Table) -> Content:
    """The content of one table."""
    return Content(table.num_rows, int(row_hashes(table).sum(dtype=np.uint64)))


def row_hashes(table: pa.Table) -> Hashes:
    """The hash of each row, of shape (rows,). Names of columns count, their order does not."""
    hashes = np.zeros(table.num_rows, np.uint64)
    for name, column in zip(table.column_names, table.columns, strict=True):
        hashes += _mixed(_hashes(column.combine_chunks()) + _of_name(name))
    return _mixed(hashes)


def _hashes(column: pa.Array) -> Hashes:
    kind = column.type
    if pa.types.is_struct(kind):
        hashes = np.zeros(len(column), np.uint64)
        for field, values in zip(kind, column.flatten(), strict=True):
            hashes += _mixed(_hashes(values) + _of_name(field.name))
    elif pa.types.is_list(kind):
        hashes = _list_hashes(column)
    elif pa.types.is_string(kind):
        hashes = text_hashes(column)
    elif pa.types.is_floating(kind):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy()
        hashes = _mixed(np.where(np.isnan(values), np.nan, values).view(np.uint64))  # one NaN, whatever its other bits
    else:
        as_integers = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
        hashes = _mixed(as_integers.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64))
    return np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, hashes)


def _list_hashes(column: pa.Array) -> Hashes:
    """Of lists: the sum over their elements, each with its place, and their length."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    return _sums(_hashes(column.flatten()), _places(lengths), lengths) + _mixed(lengths.astype(np.uint64))


def text_hashes(column: pa.Array) -> Hashes:
    """The hash of each text: the sum over its words of eight bytes, each with its place, and its length."""
    _, offsets, content = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    data = np.concatenate([np.frombuffer(content or b"", np.uint8)[bounds[0] : bounds[-1]], np.zeros(8, np.uint8)])
    lengths = np.diff(bounds)
    words = (lengths + 7) // 8
    places = _places(words)
    left = np.repeat(lengths, words) - 8 * places
    everywhere: NDArray[np.uint64] = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    read = everywhere[np.repeat(bounds[:-1] - bounds[0], words) + 8 * places] & _FIRST_BYTES[np.minimum(left, 8)]
    return _sums(read, places, words) + _mixed(lengths.astype(np.uint64))


def _places(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each element within its own list."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _sums(elements: Hashes, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> Hashes:
    """The sum of the elements of each list, each mixed with its place."""
    ends = np.cumsum(lengths)
    mixed = _mixed(elements + _mixed(places.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    hashes: Hashes = sums[ends] - sums[ends - lengths]
    return hashes


@cache
def _of_name(name: str) -> np.uint64:
    return np.uint64(text_hashes(pa.array([name]))[0])


def _mixed(values: Hashes) -> Hashes:
    """Each value with all its bits spread: splitmix64's finalizer, which pandas takes for numbers."""
    return np.asarray(pd.util.hash_array(values), np.uint64)
