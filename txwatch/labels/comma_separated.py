"""Labels as CSV: a line of column names with address, entity and source, then one label a line.

Columns category, confidence and note may be there too. Empty lines and lines that begin with # are left out.
"""

import csv
from pathlib import Path

from txwatch.labels.files import LabelFile, LabelFileError, category_of, numbered_lines
from txwatch.labels.label import UNKNOWN, Label

REQUIRED = ("address", "entity", "source")
NAMES = ", ".join(REQUIRED)
OPTIONAL = ("category", "confidence", "note")


def read_csv(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a file. The category is its column's, else the given one, else what the file's name says.

    Raises LabelFileError with the line at fault.
    """
    fallback = category or category_of(path) or UNKNOWN
    read = LabelFile(path)
    columns: list[str] | None = None
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
        except csv.Error as error:
            # A NUL, or a cell of more than csv.field_size_limit() characters.
            raise LabelFileError(f"{where}: no CSV: {error}.") from error
        if columns is None:
            columns = [cell.lower() for cell in cells]
            if missing := [name for name in REQUIRED if name not in columns]:
                raise LabelFileError(f"{where}: it must name the columns {NAMES}; {', '.join(missing)} is missing.")
            if unknown := [name for name in columns if name not in REQUIRED + OPTIONAL]:
                raise LabelFileError(f"{where}: no column is named {unknown[0]!r}.")
            continue
        if len(cells) != len(columns):
            raise LabelFileError(f"{where}: {len(cells)} cells, where {len(columns)} columns are named.")
        row = dict(zip(columns, cells, strict=True))
        if empty := [name for name in REQUIRED if not row[name]]:
            raise LabelFileError(f"{where}: {empty[0]} is empty.")
        label = Label(
            row["address"],
            row["source"],
            row["entity"],
            row.get("category") or fallback,
            row.get("confidence") or UNKNOWN,
            row.get("note") or "",
        )
        read.add(label, f"line {number}")
    if columns is None:
        raise LabelFileError(f"{path}: it is empty; the first line must name the columns {NAMES}.")
    return read
