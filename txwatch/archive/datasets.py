"""What is archived: three tables by day, and the form of their rows in Arrow.

A dataset has the columns of its table, with the coins of a transaction as lists of structs. Nothing is rounded: amounts
are 64-bit integers in satoshi, features floats of their type in the contract, in which NaN (unknown) is not null (not
computed then), times microseconds in UTC.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from txwatch.features.contract import FEATURES as CONTRACT
from txwatch.features.contract import contract_fingerprint

FORMAT = 2
"""Version of the columns. Files of a lower one are read in the present columns.

1: every feature a double. Raise it when a column is added, in whose place older files have nulls, or changes its type.
"""
_GROUP_ROWS = 16_384


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
    group_rows: int = _GROUP_ROWS

    def keys(self, table: pa.Table) -> pa.ChunkedArray:
        """The key of each row as one text."""
        parts = [table[name].cast(pa.string()) for name in self.key]
        return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "|")

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
    group_rows=2 * _GROUP_ROWS,
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
    group_rows=2 * _GROUP_ROWS,
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
    said: dict[str, object] = {"dataset": dataset.name, "day": day.isoformat(), "format": FORMAT, "key": dataset.key}
    if dataset is FEATURES:
        said["contract"] = contract_fingerprint()
    return {b"txwatch": json.dumps(said).encode()}
