"""The rows of a day wherever they are: in the archive's file if that holds all of them, else in the database."""

import json
from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from txwatch.archive.datasets import FEATURES, Dataset
from txwatch.archive.days import ArchivedDay, day_span, read_day
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import Span, local_file, read_file
from txwatch.archive.stored import stored_rows
from txwatch.features.contract import contract_fingerprint
from txwatch.store.database import Connection


def day_rows(
    connection: Connection,
    archive: Archive | None,
    dataset: Dataset,
    day: date,
    columns: Sequence[str] | None = None,
    span: Span | None = None,
) -> Iterator[pa.Table]:
    """The rows of a day, or of a span within it, each once, in tables of bounded size and in no order.

    `columns` have `seen_at` and the dataset's key among them. The connection does nothing else until the last table was
    taken. Raises ArchiveError if rows that only the archive has cannot be read.
    """
    one = read_day(connection, dataset, day)
    start, end = span or day_span(day)
    if archive is None or one is None or one.manifest is None or not (one.complete or one.alone):
        yield from stored_rows(connection, dataset, start, end, columns)
    elif one.alone:
        yield from _of_both(connection, archive, dataset, one, columns, (start, end))
    else:
        try:
            yield from read_file(archive, dataset, one.manifest, columns, (start, end))
        except ArchiveError:
            # Its file is looked at as a whole before the first of its rows is given.
            yield from stored_rows(connection, dataset, start, end, columns)


def of_present_contract(connection: Connection, archive: Archive | None, day: date) -> bool:
    """Whether the stored features of a day are those that this program computes. Raises ArchiveError."""
    one = read_day(connection, FEATURES, day)
    if archive is None or one is None or one.manifest is None or not (one.complete or one.alone):
        return True
    said = json.loads(pq.read_schema(local_file(archive, FEATURES, one.manifest)).metadata[b"txwatch"])
    return bool(said["contract"] == contract_fingerprint())


def _of_both(
    connection: Connection,
    archive: Archive,
    dataset: Dataset,
    one: ArchivedDay,
    columns: Sequence[str] | None,
    span: Span,
) -> Iterator[pa.Table]:
    """What the database holds of a day, which is little or nothing, and what only its file has."""
    known = pa.chunked_array([], pa.string())
    if not one.complete:
        for table in stored_rows(connection, dataset, *span, columns):
            known = pa.chunked_array([*known.chunks, *dataset.keys(table).chunks], pa.string())
            yield table
    if one.manifest is not None:
        for table in read_file(archive, dataset, one.manifest, columns, span):
            yield table.filter(pc.invert(pc.is_in(dataset.keys(table), known))) if len(known) else table
