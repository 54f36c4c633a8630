"""Rows as files to take away: CSV for spreadsheets, Parquet for programs, with the types that the rows have."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from txwatch.queries.cases import Case

_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?= *[=+\-@＝＋－＠])|^(?=[\t\r])")
"""Where a spreadsheet takes a cell for a formula, which somebody's note could use against its reader. One that parts
cells by semicolons or tabs, as in some countries, finds cells within ours."""


def as_csv(rows: Iterable[Case]) -> bytes:
    """One line each under a head of names: times in UTC, kinds separated by spaces, nothing for None.

    As spreadsheets take it: a time with a T or a zone is a text to them, and so is UTF-8 garbled without its mark.
    """
    text = io.StringIO(newline="")
    names = [field.name for field in fields(Case)]
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return " ".join(value)
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def as_parquet(rows: Iterable[Case]) -> bytes:
    """The same as Parquet (zstd): times as timestamps in UTC, kinds as a list of strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    hints = get_type_hints(Case)
    schema = pa.schema([(field.name, _arrow(hints[field.name])) for field in fields(Case)])
    columns: dict[str, Sequence[Any]] = {name: [] for name in schema.names}
    for row in rows:
        for name, column in columns.items():
            column.append(getattr(row, name))  # type: ignore[attr-defined]
    out = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), out, compression="zstd")
    return out.getvalue()


def _arrow(hint: Any) -> Any:
    """The column type of a field: of `X | None` that of X."""
    import pyarrow as pa

    if isinstance(hint, UnionType):
        (hint,) = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is list:
        return pa.list_(pa.string())
    named = {int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us", tz="UTC")}
    return named.get(hint, pa.string())
