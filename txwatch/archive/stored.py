"""Read the rows of Postgres as Arrow: by COPY in its binary form, a column at a time and no object for each value.

The form is in PostgreSQL's manual, "COPY, Binary Format": for each row the number of its fields, and for each field its
length, -1 for null, and its bytes, big-endian. Each row comes as a message of its own, so that it is known where it
begins; within it each field begins where the one before it ends.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from pyarrow import json as arrow_json

from txwatch.archive.datasets import Dataset
from txwatch.store.database import Connection

CHUNK_ROWS = 16_384
CHUNK_BYTES = 32 << 20
"""Bounds of what is read from Postgres at once."""
_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, PostgreSQL's zero, in microseconds since 1970."""
_SENT = {
    pa.bool_(): ("boolean", "?"),
    pa.int32(): ("integer", ">i4"),
    pa.int64(): ("bigint", ">i8"),
    pa.float32(): ("real", ">f4"),
    pa.float64(): ("double precision", ">f8"),
    pa.timestamp("us", tz="UTC"): ("timestamptz", ">i8"),
}
"""Of each type of one width: what a column is sent as, and how that is read."""

Places = NDArray[np.int64]


def stored_rows(
    connection: Connection,
    dataset: Dataset,
    start: datetime | None,
    end: datetime | None,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """The rows of Postgres seen in [start, end), by time, in tables of bounded size. None is without bound.

    The connection does nothing else until the last table was taken, and is in a transaction.
    """
    # Whoever writes the tables may wait for long; the server would take a client for gone that takes nothing.
    connection.execute("SET LOCAL tcp_user_timeout = 0")
    schema = dataset.columns(columns)
    bounds: list[sql.Composable] = [sql.SQL("true")]
    bounds += [sql.SQL("seen_at >= {}").format(sql.Literal(start))] if start else []
    bounds += [sql.SQL("seen_at < {}").format(sql.Literal(end))] if end else []
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(_as_sent(field) for field in schema),
        sql.Identifier(dataset.table),
        sql.SQL(" AND ").join(bounds),
        sql.SQL(", ").join(map(sql.Identifier, ("seen_at", *dataset.key))),
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        messages = _messages(copy)
        while rows := _take(messages):
            yield _table(rows, schema)


def _as_sent(field: pa.Field) -> sql.Composed:
    """A column as it is selected: lists as JSON, everything else as its type says."""
    sent = "to_jsonb({})::text" if pa.types.is_list(field.type) else f"{{}}::{_SENT.get(field.type, ('text',))[0]}"
    return sql.SQL(sent).format(sql.Identifier(field.name))


def _messages(copy: Any) -> Iterator[bytes]:
    """The rows, without what comes before the first and after the last of them."""
    first = True
    for message in copy:
        row = bytes(message)[_HEADER_BYTES:] if first else bytes(message)
        first = False
        if row and row != _TRAILER:
            yield row


def _take(messages: Iterator[bytes]) -> list[bytes]:
    """The next rows, at most CHUNK_ROWS, and no more than CHUNK_BYTES but for the last one."""
    taken: list[bytes] = []
    size = 0
    for row in islice(messages, CHUNK_ROWS):
        taken.append(row)
        size += len(row)
        if size >= CHUNK_BYTES:
            break
    return taken


def _table(rows: list[bytes], schema: pa.Schema) -> pa.Table:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    data = np.frombuffer(b"".join(rows) + bytes(8), np.uint8)
    at = np.cumsum(lengths) - lengths + 2
    columns = []
    for field in schema:
        sizes = _read(data, at, ">i4").astype(np.int64)
        at = at + 4
        columns.append(_column(data, at, sizes, field.type))
        at += np.maximum(sizes, 0)
    return pa.table(columns, schema=schema)


def _read(data: NDArray[np.uint8], at: Places, dtype: str) -> NDArray[Any]:
    """The values that begin at these places."""
    width = np.dtype(dtype).itemsize
    everywhere: NDArray[Any] = np.ndarray(len(data) - width + 1, dtype, data, strides=(1,))
    return everywhere[at]


def _column(data: NDArray[np.uint8], at: Places, sizes: Places, kind: pa.DataType) -> pa.Array:
    missing = sizes < 0
    if kind not in _SENT:
        texts = _texts(data, at, sizes, missing)
        return _lists(texts, kind) if pa.types.is_list(kind) else texts
    _, dtype = _SENT[kind]
    values = _read(data, np.where(missing, 0, at), dtype).astype(np.dtype(dtype).newbyteorder("="))
    if pa.types.is_timestamp(kind):
        values += _POSTGRES_EPOCH_US
        return pa.array(values, pa.int64(), mask=missing).cast(kind)
    return pa.array(values, kind, mask=missing)


def _texts(data: NDArray[np.uint8], at: Places, sizes: Places, missing: NDArray[np.bool_]) -> pa.Array:
    """The texts at these places: of all stretches of the data, those are taken that begin there."""
    ends = at + np.maximum(sizes, 0)
    bounds = np.column_stack([at, ends]).ravel().astype(np.int32)
    stretches = pa.Array.from_buffers(pa.string(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    return stretches.take(pa.array(np.arange(0, len(bounds), 2), mask=missing))


def _lists(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists from their JSON; what a struct leaves out is null."""
    lines = pc.binary_join_element_wise('{"v":', texts.fill_null("null"), "}\n", "")
    _, offsets, document = lines.buffers()
    used = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    read = arrow_json.ReadOptions(use_threads=False, block_size=int(used[-1] - used[0]) + 1)
    explicit = arrow_json.ParseOptions(
        explicit_schema=pa.schema([("v", kind)]), unexpected_field_behavior="error", newlines_in_values=False
    )
    source = pa.BufferReader(document.slice(int(used[0]), int(used[-1] - used[0])))
    return arrow_json.read_json(source, read_options=read, parse_options=explicit)["v"].combine_chunks()
