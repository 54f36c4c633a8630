"""What is archived: three tables by day, the form of their rows in Arrow, and how they are read from Postgres.

A dataset has the columns of its table, with the coins of a transaction as lists of structs. Nothing is rounded: amounts
are 64-bit integers in satoshi, features floats of their type in the contract, in which NaN (unknown) is not null (not
computed then), times microseconds in UTC.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice

import pyarrow as pa
from psycopg import sql
from pyarrow import csv
from pyarrow import json as arrow_json

from txwatch.features.contract import FEATURES as CONTRACT
from txwatch.store.database import Connection

FORMAT = 2
"""Version of the columns. Files of a lower one are read in the present columns.

1: every feature a double. Raise it when a column is added, in whose place older files have nulls, or changes its type.
"""
CHUNK_ROWS = 16_384
CHUNK_BYTES = 32 << 20
"""Bounds of what is read from Postgres at once."""


@dataclass(frozen=True)
class Dataset:
    """A table by its name for people, its columns, and in `key` those that tell one row from another.

    A file is sorted by `order` within each span of rows, so that its groups of `group_rows` rows hold narrow ranges.
    """

    name: str
    table: str
    schema: pa.Schema
    key: tuple[str, ...]
    order: tuple[str, ...] = ()
    group_rows: int = CHUNK_ROWS

    def columns(self, names: Sequence[str] | None = None) -> pa.Schema:
        """The schema of these columns, in their order in the table; None for all."""
        return pa.schema([field for field in self.schema if names is None or field.name in names])


_time = pa.timestamp("us", tz="UTC")
_CREATED = [("addr", pa.string()), ("value", pa.int64()), ("type", pa.string()), ("n", pa.int64())]
_SPENT = [*_CREATED, ("txid", pa.string()), ("height", pa.int32()), ("coinbase", pa.bool_())]

TRANSACTIONS = Dataset(
    "transactions",
    "transactions",
    pa.schema(
        [
            ("txid", pa.string()),
            ("seen_at", _time),
            ("feed_time", _time),
            ("value_sat", pa.int64()),
            ("input_sat", pa.int64()),
            ("fee_sat", pa.int64()),
            ("vsize", pa.int32()),
            ("weight", pa.int32()),
            ("size", pa.int32()),
            ("input_count", pa.int32()),
            ("output_count", pa.int32()),
            ("rbf", pa.bool_()),
            ("version", pa.int64()),
            ("lock_time", pa.int64()),
            ("inputs", pa.list_(pa.struct(_SPENT))),
            ("outputs", pa.list_(pa.struct(_CREATED))),
            ("source", pa.string()),
            ("tip_height", pa.int32()),
            ("landed_at", _time),
        ]
    ),
    key=("txid",),
    order=("value_sat", "txid"),
)
FEATURES = Dataset(
    "features",
    "transaction_features",
    pa.schema(
        [
            ("txid", pa.string()),
            ("seen_at", _time),
            ("window_start", _time),
            ("context_version", pa.int64()),
            *((feature.name, pa.type_for_alias(feature.type)) for feature in CONTRACT),
        ]
    ),
    key=("txid",),
    order=("value_sat", "txid"),
    group_rows=2 * CHUNK_ROWS,
)
SCORES = Dataset(
    "scores",
    "transaction_scores",
    pa.schema(
        [
            ("txid", pa.string()),
            ("seen_at", _time),
            ("model_version", pa.string()),
            ("context_version", pa.int64()),
            ("lane", pa.string()),
            ("score", pa.float64()),
            ("threshold", pa.float64()),
            ("is_anomaly", pa.bool_()),
            ("reasons", pa.string()),
            ("scored_at", _time),
            ("pattern", pa.int64()),
        ]
    ),
    key=("txid", "model_version", "context_version"),
    order=("score", "txid", "model_version", "context_version"),
    group_rows=2 * CHUNK_ROWS,
)
ARCHIVED = {dataset.name: dataset for dataset in (TRANSACTIONS, FEATURES, SCORES)}
ALERTS = Dataset(
    "alerts",
    "alerts",
    pa.schema(
        [
            ("alert_key", pa.string()),
            ("kinds", pa.list_(pa.string())),
            ("severity", pa.string()),
            ("reasons", pa.string()),
            ("late", pa.bool_()),
            ("seen_at", _time),
            ("model_version", pa.string()),
            ("created_at", _time),
            ("usd_price", pa.float64()),
            ("usd_price_at", _time),
        ]
    ),
    key=("alert_key",),
)
"""Kept in Postgres for good, and so in no archive."""


def stored_rows(
    connection: Connection,
    dataset: Dataset,
    start: datetime | None,
    end: datetime | None,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """The rows of Postgres seen in [start, end), by time, in tables of bounded size. None is without bound.

    The connection does nothing else until the last table was taken.
    """
    schema = dataset.columns(columns)
    bounds: list[sql.Composable] = [sql.SQL("true")]
    bounds += [sql.SQL("seen_at >= {}").format(sql.Literal(start))] if start else []
    bounds += [sql.SQL("seen_at < {}").format(sql.Literal(end))] if end else []
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY {}) TO STDOUT (FORMAT csv)").format(
        sql.SQL(", ").join(_as_sent(field) for field in schema),
        sql.Identifier(dataset.table),
        sql.SQL(" AND ").join(bounds),
        sql.SQL(", ").join(map(sql.Identifier, ("seen_at", *dataset.key))),
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        lines = (bytes(line) for line in copy)
        while chunk := _take(lines):
            yield _parsed(chunk, schema)


def _as_sent(field: pa.Field) -> sql.Composed:
    """A column as it is selected: times as microseconds, which are read faster than their text, and lists as JSON."""
    name = sql.Identifier(field.name)
    if pa.types.is_timestamp(field.type):
        return sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(name)
    return sql.SQL("to_jsonb({})").format(name) if pa.types.is_list(field.type) else sql.SQL("{}").format(name)


def _take(lines: Iterator[bytes]) -> bytes:
    """The next rows; each is a message of its own."""
    taken: list[bytes] = []
    size = 0
    for line in islice(lines, CHUNK_ROWS):
        taken.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            break
    return b"".join(taken)


def _parsed(rows: bytes, schema: pa.Schema) -> pa.Table:
    def sent(kind: pa.DataType) -> pa.DataType:
        return pa.int64() if pa.types.is_timestamp(kind) else pa.string() if pa.types.is_list(kind) else kind

    table = csv.read_csv(
        io.BytesIO(rows),
        csv.ReadOptions(use_threads=False, block_size=len(rows) + 1, column_names=schema.names),
        csv.ParseOptions(),
        csv.ConvertOptions(
            column_types={field.name: sent(field.type) for field in schema},
            # Null is nothing at all between two commas, and the empty text a pair of quotes.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    columns = [
        _lists(column, field.type) if pa.types.is_list(field.type) else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _lists(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Lists from their JSON; what a struct leaves out is null."""
    lines = "\n".join(f'{{"v":{text or "null"}}}' for text in texts.to_pylist()).encode()
    read = arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    explicit = arrow_json.ParseOptions(
        explicit_schema=pa.schema([("v", kind)]), unexpected_field_behavior="error", newlines_in_values=False
    )
    return arrow_json.read_json(io.BytesIO(lines), read_options=read, parse_options=explicit)["v"]


def as_current(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an older format in the present columns: those that it lacks are null."""
    missing = pa.nulls(table.num_rows)
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else missing.cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def metadata_of(dataset: Dataset, day: date) -> dict[bytes, bytes]:
    """What a file says of itself."""
    said = {"dataset": dataset.name, "day": day.isoformat(), "format": FORMAT, "key": dataset.key}
    return {b"txwatch": json.dumps(said).encode()}
