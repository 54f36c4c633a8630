"""What a table's asset shows of its columns: their types and what they hold, from the schema and the contract."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from txwatch.features.contract import FEATURES
from txwatch.store.schema import metadata

POSTGRES: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
OF_FEATURES = {feature.name: f"{feature.reason} ({feature.unit})" for feature in FEATURES}


def table_metadata(table: str, described: Mapping[str, str] = OF_FEATURES) -> dict[str, Any]:
    """Dagster's metadata on a table of the schema. Columns without a comment are told in the words of `described`."""
    columns = metadata.tables[table].columns
    return {
        "dagster/table_name": table,
        "dagster/column_schema": dg.TableSchema([_column(column, described) for column in columns]),
    }


def _column(column: "sa.Column[Any]", described: Mapping[str, str]) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=bool(column.nullable))
    text = column.comment or described[column.name]
    return dg.TableColumn(column.name, str(column.type.compile(POSTGRES)), text, constraints)
