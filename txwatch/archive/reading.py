"""Read days: files that are as their manifests say, on this machine, and rows, from the database where no file is.

No reader of Parquet notices every damaged bit. So a file is read whole and compared with its SHA-256 before it is used:
once, and again after it was changed, by its size and time of change. A file of S3 is fetched, and compared as it comes.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from txwatch.archive.datasets import FEATURES, FORMAT, Dataset, as_current
from txwatch.archive.days import ArchivedDay, day_span, read_day
from txwatch.archive.manifest import READ_BYTES, Archive, ArchiveError, Manifest, digest
from txwatch.archive.stored import stored_rows
from txwatch.features.contract import contract_fingerprint
from txwatch.places import NoSuchObjectError, ObjectStoreError, S3Object
from txwatch.store.database import Connection

Span = tuple[datetime, datetime]
"""From a moment until before another, UTC."""
FETCHED_BYTES = 20 << 30
"""Bytes of fetched files that stay on this machine: beyond it those go that were used longest ago."""
_CHECKED = "checked.json"
"""In `work`: files of a folder that were found sound, each with its size, time of change and SHA-256."""


def local_file(archive: Archive, dataset: Dataset, manifest: Manifest) -> Path:
    """The file of an archived day, on this machine and sound. Raises ArchiveError."""
    if manifest.format > FORMAT:
        raise ArchiveError(f"{_named(manifest)} were written by a newer version of txwatch: read them with that one")
    place = archive.file(manifest, dataset)
    try:
        if isinstance(place, S3Object):
            return _fetched(archive, dataset, manifest, place)
        if _read_checked(archive).get(str(place)) != _stamp(place, manifest):
            verify_file(archive, dataset, manifest)
        return place
    except (FileNotFoundError, NoSuchObjectError):
        raise ArchiveError(f"{_named(manifest)}: its file is missing") from None
    except (OSError, ObjectStoreError) as error:
        raise ArchiveError(f"{_named(manifest)}: its file cannot be read: {error}") from error


def verify_file(archive: Archive, dataset: Dataset, manifest: Manifest) -> None:
    """Read a day's whole file where it is. Raises ArchiveError if it is missing or differs in any bit.

    Whether it was sound is remembered of a file of this machine.
    """
    place = archive.file(manifest, dataset)
    try:
        if isinstance(place, S3Object):
            _compare(manifest, *digest(place, manifest.bytes))
            return
        stamp = _stamp(place, manifest)
        _note_checked(archive, str(place), None)
        _compare(manifest, *digest(place, manifest.bytes))
        _note_checked(archive, str(place), stamp)
    except (FileNotFoundError, NoSuchObjectError):
        raise ArchiveError(f"{_named(manifest)}: its file is missing") from None
    except (OSError, ObjectStoreError) as error:
        raise ArchiveError(f"{_named(manifest)}: its file cannot be read: {error}") from error


def _stamp(file: Path, manifest: Manifest) -> list[object]:
    seen = file.stat()
    return [seen.st_size, seen.st_mtime_ns, manifest.sha256]


def _compare(manifest: Manifest, size: int, sha256: str) -> None:
    if size != manifest.bytes:
        raise ArchiveError(f"{_named(manifest)}: its file has {size:,} bytes instead of {manifest.bytes:,}")
    if sha256 != manifest.sha256:
        raise ArchiveError(f"{_named(manifest)}: its file is damaged")


def _named(manifest: Manifest) -> str:
    return f"{manifest.dataset} of {manifest.day}"


def read_file(
    archive: Archive,
    dataset: Dataset,
    manifest: Manifest,
    columns: Sequence[str] | None = None,
    span: Span | None = None,
) -> Iterator[pa.Table]:
    """The rows of an archived day in the present columns, row group by row group. Raises ArchiveError.

    With `columns` only those are read; with a `span` only what was seen in it, and `seen_at` must be a column.
    """
    schema = dataset.columns(columns)
    for table in read_parquet(local_file(archive, dataset, manifest), None if columns is None else schema.names, span):
        yield as_current(table, schema)


def read_parquet(file: Path, columns: Sequence[str] | None = None, span: Span | None = None) -> Iterator[pa.Table]:
    """The row groups of a Parquet file as tables, with the checksums of its pages compared."""
    with pq.ParquetFile(file, page_checksum_verification=True) as source:
        seen_at = source.schema.names.index("seen_at")
        for group in range(source.num_row_groups):
            if span is not None and not may_hold(source.metadata.row_group(group).column(seen_at), *span):
                continue
            table = source.read_row_group(group, columns=columns, use_threads=False)
            yield table if span is None else seen_in(table, span)


def may_hold(column: pq.ColumnChunkMetaData, least: Any, end: Any) -> bool:
    """Whether a column of a row group may hold values in [least, end), by its statistics; true without any."""
    bounds = column.statistics
    return bounds is None or not bounds.has_min_max or (bounds.max >= least and bounds.min < end)


def seen_in(table: pa.Table, span: Span) -> pa.Table:
    """The rows that were seen in a span."""
    start, end = span
    return table.filter((pc.field("seen_at") >= start) & (pc.field("seen_at") < end))


def _fetched(archive: Archive, dataset: Dataset, manifest: Manifest, place: S3Object) -> Path:
    """The copy of a file of S3. Its name has its digest, so that a copy is never out of date."""
    copy = archive.work / dataset.name / manifest.file
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = copy.with_name(f"{copy.name}.{_mine()}.part")
        try:
            with place.open("rb") as source, draft.open("wb") as file:
                # No further than the file may be: what answers may go on for ever.
                while file.tell() <= manifest.bytes and (block := source.read(READ_BYTES)):
                    file.write(block)
            _compare(manifest, *digest(draft))
            draft.replace(copy)
        finally:
            draft.unlink(missing_ok=True)
        _make_room(archive.work, keep=copy)
    os.utime(copy)
    return copy


def _make_room(work: Path, keep: Path) -> None:
    """Remove the copies that were used longest ago, until FETCHED_BYTES hold the others."""
    copies: list[tuple[int, int, Path]] = []
    for copy in work.glob("*/*.parquet"):
        with suppress(FileNotFoundError):  # another process makes room too
            found = copy.stat()
            copies.append((found.st_mtime_ns, found.st_size, copy))
    total = 0
    for _, size, copy in sorted(copies, reverse=True):
        total += size
        if total > FETCHED_BYTES and copy != keep:
            copy.unlink(missing_ok=True)


def _read_checked(archive: Archive) -> dict[str, list[object]]:
    try:
        found = json.loads((archive.work / _CHECKED).read_text())
    except (OSError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}  # then all are compared again


def _note_checked(archive: Archive, place: str, stamp: list[object] | None) -> None:
    """Remember that a file is sound, or with None no longer that it was.

    Of two that are noted at once one may be forgotten, and where nothing can be written all are: that costs time only.
    """
    there = {path: known for path, known in _read_checked(archive).items() if Path(path).exists()}
    noted = {path: known for path, known in (there | {place: stamp}).items() if known is not None}
    draft = archive.work / f"{_CHECKED}.{_mine()}.part"
    with suppress(OSError):
        archive.work.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(noted))
        draft.replace(archive.work / _CHECKED)


def _mine() -> str:
    """A part of a name that no other thread or process gives."""
    return f"{os.getpid()}-{threading.get_ident()}"


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
