"""Write a day into the archive: all rows of a snapshot, read back and compared before a manifest names the file.

Rows come in the order of time. Each span of them is sorted by amount (scores: by score) and written as row groups: a
look-up by time skips spans, one by amount all but a few groups of each, one by txid what the Bloom filters exclude. No
more than a span is in memory. The order follows from the rows alone: the same day twice is the same file.

Archiving takes nothing out of the archive: rows that the file has and the database no longer has are kept.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from txwatch.archive.checksum import Content, content, content_of
from txwatch.archive.datasets import FORMAT, TRANSACTIONS, Dataset, metadata_of
from txwatch.archive.days import begin_day, counted_since, day_span, record_day
from txwatch.archive.look_up import PATHS
from txwatch.archive.manifest import Archive, ArchiveError, Manifest, digest, sync
from txwatch.archive.reading import read_file, read_parquet
from txwatch.archive.stored import stored_rows
from txwatch.store.database import Connection, scalar
from txwatch.store.locks import Lock, if_free

SPAN_ROWS = 131_072
SPAN_BYTES = 128 << 20
"""Bounds of what is sorted at once, in Arrow's bytes."""
WRITERS_END_WITHIN = 60.0
"""Seconds that writes which began before the day was announced are waited for."""
_PAUSE = 0.5
_WRITER = {
    "compression": "zstd",
    "compression_level": 9,
    # zstd finds what repeats, in less space than a dictionary and its keys take.
    "use_dictionary": False,
    "write_statistics": True,
    "write_page_index": True,
    "write_page_checksum": True,
    "store_schema": True,
}


def archive_day(
    connection: Connection,
    archive: Archive,
    dataset: Dataset,
    day: date,
    now: datetime,
    wait: Callable[[float], None] = time.sleep,
) -> Manifest:
    """Archive what the database holds of a day, and record it. Safe to repeat and to interrupt.

    Raises ArchiveError, OSError if the disk is full, and ObjectStoreError. `wait` sleeps.
    """
    with if_free(connection, Lock.ARCHIVE, f"{dataset.name} {day}") as held:
        if not held:
            raise ArchiveError(f"{dataset.name} of {day} are being archived by another process.")
        begun, waited = begin_day(connection, dataset, day), 0.0
        while not counted_since(connection, begun):
            if waited >= WRITERS_END_WITHIN:
                raise ArchiveError(f"A write to the database goes on for long: {dataset.name} of {day} have to wait.")
            wait(_PAUSE)
            waited += _PAUSE
        former = archive.manifest(dataset, day)
        archive.forget_unnamed(dataset, day, named=former.file if former else None)
        draft = archive.draft(dataset, day)
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                changes = _changes(connection, dataset, day)
                stored, kept = _write(draft, _rows(connection, archive, dataset, day, former), dataset, day)
            manifest = _publish(archive, dataset, day, draft, stored, kept, now)
        finally:
            draft.unlink(missing_ok=True)
        archive.name(manifest, dataset)
        record_day(connection, manifest, changes)
        return manifest


def _changes(connection: Connection, dataset: Dataset, day: date) -> int:
    query = "SELECT changes FROM archived_days WHERE dataset = %s AND day = %s"
    return int(scalar(connection, query, [dataset.name, day]))


Rows = Iterator[tuple[pa.Table, bool]]
"""Tables of rows, each with whether the database holds them."""


def _rows(connection: Connection, archive: Archive, dataset: Dataset, day: date, former: Manifest | None) -> Rows:
    """What the database holds of a day, and after that what only the former file does."""
    keys: list[pa.ChunkedArray] = []
    rows = 0
    for table in stored_rows(connection, dataset, *day_span(day)):
        rows += table.num_rows
        if former is not None:
            keys.append(dataset.keys(table))
        yield table, True
    if former is None or former.rows == 0:
        return
    known = pa.chunked_array([chunk for key in keys for chunk in key.chunks], pa.string())
    try:
        for table in read_file(archive, dataset, former):
            only_there = table.filter(pc.invert(pc.is_in(dataset.keys(table), known)))
            if only_there.num_rows:
                yield only_there, False
    except ArchiveError:
        # The database may still have all that the file had. If not, the file stays as it is: some of it can be read.
        if rows < former.rows:
            raise


def _write(draft: Path, rows: Rows, dataset: Dataset, day: date) -> tuple[Content, Content]:
    """Write the rows, durably. Returns the content of those of the database, and of the others."""
    contents = {True: Content(), False: Content()}

    def counted() -> Iterator[pa.Table]:
        for table, stored in rows:
            contents[stored] += content_of(table)
            yield table

    with draft.open("wb") as file:
        write_parquet(file, counted(), dataset, day)
        sync(file)
    return contents[True], contents[False]


def write_parquet(file: Any, tables: Iterable[pa.Table], dataset: Dataset, day: date) -> None:
    """Write tables, which come in the order of time, as the Parquet file of a day."""
    schema = dataset.schema.with_metadata(metadata_of(dataset, day))
    names = ("txid", *PATHS) if dataset is TRANSACTIONS else ("txid",)
    # Of addresses there are more than rows: on the average a transaction pays to two and a half.
    bloom = {name: {"ndv": dataset.group_rows * (2 if name in PATHS else 1), "fpp": 0.01} for name in names}
    encodings = _encodings(schema)
    with pq.ParquetWriter(file, schema, bloom_filter_options=bloom, column_encoding=encodings, **_WRITER) as writer:
        for span in _spans(tables):
            ordered = span.sort_by([(name, "ascending") for name in dataset.order])
            writer.write_table(ordered.replace_schema_metadata(schema.metadata), row_group_size=dataset.group_rows)


def _encodings(schema: pa.Schema) -> dict[str, str]:
    """How columns are encoded before they are compressed, by their path; all others as they are.

    Of txids and addresses the lengths are kept apart, so that of the rest each digit costs no more than its bits.
    """
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_timestamp(field.type)}
    for field in schema:
        nested = pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type)
        leaves = (
            {f"{field.name}.list.element.{leaf.name}": leaf.name for leaf in field.type.value_type} if nested else {}
        )
        for path, name in (leaves or {field.name: field.name}).items():
            if name in {"txid", "addr"}:
                encodings[path] = "DELTA_LENGTH_BYTE_ARRAY"
    return encodings


def _spans(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of SPAN_ROWS, the last of fewer, or of about SPAN_BYTES if that is less."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(one.num_rows for one in held) >= SPAN_ROWS or sum(one.nbytes for one in held) >= SPAN_BYTES:
            together = pa.concat_tables(held)
            whole = min(SPAN_ROWS, together.num_rows)
            yield together.slice(0, whole)
            held = [together.slice(whole)] if whole < together.num_rows else []
    if held:
        yield pa.concat_tables(held)


def _publish(
    archive: Archive, dataset: Dataset, day: date, draft: Path, stored: Content, kept: Content, now: datetime
) -> Manifest:
    """Read a draft back, compare it, and publish it. Raises ArchiveError if it is not what was written."""
    written = stored + kept
    size, sha256 = digest(draft)
    found = content(read_parquet(draft))
    if found != written:
        raise ArchiveError(f"{dataset.name} of {day}: what was written is not what is read back; is the disk sound?")
    published = archive.publish(dataset, day, draft, sha256)
    if (size, sha256) != digest(published):
        raise ArchiveError(f"{published} is not what was written.")
    return Manifest(
        dataset.name, day, FORMAT, published.name, size, sha256, written.rows, written.checksum, stored.rows,
        stored.checksum, now,
    )  # fmt: skip


def stored_content(connection: Connection, dataset: Dataset, day: date) -> Content:
    """The content of what the database holds of a day."""
    return content(stored_rows(connection, dataset, *day_span(day)))
