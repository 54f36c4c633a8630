"""Find transactions in archived days, by txid, address, amount or time, and read little else.

Row groups that cannot hold what is sought are skipped: by their statistics and, of txids and addresses, by their Bloom
filters, a few of a hundred of which let it pass by mistake. DuckDB looks for no list's element in them, so that they
are read here. The other groups are read one by one, so that memory holds a group and what was found.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS, Dataset, as_current
from txwatch.archive.days import day_span, read_day, read_days
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import local_file, may_hold
from txwatch.places import ObjectStoreError
from txwatch.store.database import Connection

LISTS = ("inputs", "outputs")
PATHS = tuple(f"{name}.list.element.addr" for name in LISTS)
_SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
"""Of Parquet's split block Bloom filter (parquet-format, BloomFilter.md)."""
_BLOCK_BYTES = 32
_MOST_SAT = 1 << 63
_NEWEST_FIRST = [("seen_at", "descending"), ("txid", "descending")]


@dataclass(frozen=True)
class Sought:
    """What transactions are looked for by. None asks nothing; amounts are total outputs in satoshi, both included.

    `since` is included and `until` is not; with `before`, a moment and a txid, those that come after it, newest first.
    """

    txid: str | None = None
    address: str | None = None
    least_sat: int | None = None
    most_sat: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, str] | None = None

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When they were seen: at or after the first and before the second."""
        ends = [self.until, self.before and self.before[0] + datetime.resolution]
        return self.since or datetime.min.replace(tzinfo=UTC), min(
            (end for end in ends if end is not None), default=datetime.max.replace(tzinfo=UTC)
        )

    @property
    def paths(self) -> list[str]:
        """The columns whose statistics or filters say whether a row group may hold it."""
        asked = {
            "seen_at": self.since or self.until or self.before,
            "value_sat": self.least_sat is not None or self.most_sat is not None,
            "txid": self.txid,
        }
        return [name for name, is_asked in asked.items() if is_asked] + (list(PATHS) if self.address else [])

    def of(self, table: pa.Table) -> pa.Table:
        """The rows that are sought."""
        start, end = self.span
        condition = (pc.field("seen_at") >= start) & (pc.field("seen_at") < end)
        if self.txid is not None:
            condition &= pc.field("txid") == self.txid
        if self.least_sat is not None:
            condition &= pc.field("value_sat") >= self.least_sat
        if self.most_sat is not None:
            condition &= pc.field("value_sat") <= self.most_sat
        if self.before is not None:
            moment, txid = self.before
            condition &= (pc.field("seen_at") < moment) | (pc.field("txid") < txid)
        found = table if self.address is None else with_address(table, self.address)
        return found.filter(condition)


@dataclass(frozen=True)
class Looked:
    """What was found, the newest first, and `notes` that name each day that could not be looked through, and why."""

    table: pa.Table
    notes: list[str]


def look_up(connection: Connection, archive: Archive, sought: Sought, limit: int, seconds: float) -> Looked:
    """The newest transactions of days that only the archive has whole, at most `limit`.

    Days are looked through from the newest on until there are enough. Those for which the time was too short are named.
    """
    until = time.monotonic() + seconds
    start, end = sought.span
    found, notes = TRANSACTIONS.schema.empty_table(), []
    late: list[date] = []
    for one in reversed(read_days(connection, TRANSACTIONS)):
        first, after = day_span(one.day)
        if one.manifest is None or not one.alone or after <= start or first >= end:
            continue
        if found.num_rows >= limit:
            break
        if time.monotonic() > until:
            late.append(one.day)
            continue
        try:
            for table in _in_file(local_file(archive, TRANSACTIONS, one.manifest), sought):
                found = pa.concat_tables([found, table]).sort_by(_NEWEST_FIRST).slice(0, limit)
        except (ArchiveError, ObjectStoreError) as error:
            notes.append(str(error))
        if sought.txid is not None and found.num_rows:
            return Looked(found, [])
    if late:
        notes.append(f"{len(late)} days from {late[-1]} to {late[0]} could not be looked through in {seconds:g} s")
    return Looked(found, notes)


def rows_of(connection: Connection, archive: Archive, name: str, day: date, txid: str) -> list[dict[str, object]]:
    """The archived rows of a transaction in a dataset of its day, as dictionaries. Raises ArchiveError."""
    dataset = ARCHIVED[name]
    one = read_day(connection, dataset, day)
    if one is None or one.manifest is None:
        return []
    file = local_file(archive, dataset, one.manifest)
    rows: list[dict[str, object]] = []
    for table in _groups(file, dataset, Sought(txid=txid)):
        rows += table.filter(pc.field("txid") == txid).to_pylist()
    return rows


class TooSlowError(Exception):
    """It takes longer than it may."""


def transactions_of(files: Sequence[Path], address: str, seconds: float) -> pa.Table:
    """The archived transactions that spend from an address or pay to it. Raises TooSlowError after so many seconds."""
    until = time.monotonic() + seconds
    found = [TRANSACTIONS.schema.empty_table()]
    for file in files:
        if time.monotonic() > until:
            raise TooSlowError
        found += _in_file(file, Sought(address=address))
    return pa.concat_tables(found)


def with_address(table: pa.Table, address: str) -> pa.Table:
    """The rows of a table of transactions that spend from an address or pay to it."""
    places: set[int] = set()
    for name in LISTS:
        coins = table[name].combine_chunks()
        of_it = pc.equal(coins.flatten().field("addr"), address).fill_null(False)
        places.update(pc.list_parent_indices(coins).filter(of_it).to_pylist())
    return table.take(pa.array(sorted(places), pa.int64()))


def _in_file(path: Path, sought: Sought) -> Iterator[pa.Table]:
    for table in _groups(path, TRANSACTIONS, sought):
        found = sought.of(table)
        if found.num_rows:
            yield found


def _groups(path: Path, dataset: Dataset, sought: Sought) -> Iterator[pa.Table]:
    """The row groups that may hold what is sought, in the present columns."""
    with path.open("rb") as file, pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        places = {parquet.schema.column(n).path: n for n in range(len(parquet.schema))}
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            columns = {name: group.column(places[name]) for name in sought.paths if name in places}
            if not _may_hold_it(file, columns, sought):
                continue
            if sought.address is not None:
                # Of the few that a filter lets pass by mistake the addresses alone are read.
                alone = parquet.read_row_group(number, columns=list(PATHS), use_threads=False)
                if not with_address(alone, sought.address).num_rows:
                    continue
            yield as_current(parquet.read_row_group(number, use_threads=False), dataset.schema)


def _may_hold_it(file: BinaryIO, columns: Mapping[str, pq.ColumnChunkMetaData], sought: Sought) -> bool:
    """Whether a row group may, by these of its columns."""
    least = sought.least_sat or 0
    end = _MOST_SAT if sought.most_sat is None else sought.most_sat + 1
    bounds = (("seen_at", *sought.span), ("value_sat", least, end))
    texts = ((sought.txid, ("txid",)), (sought.address, PATHS))
    return all(may_hold(columns[name], first, after) for name, first, after in bounds if name in columns) and all(
        any(_filter_may_hold(file, columns[path], text) for path in paths if path in columns)
        for text, paths in texts
        if text is not None
    )


def _filter_may_hold(file: BinaryIO, column: pq.ColumnChunkMetaData, text: str) -> bool:
    """Whether a column's Bloom filter, in the open file, lets a text pass; true without one."""
    offset, length = column.bloom_filter_offset, column.bloom_filter_length
    if offset is None or length is None:
        return True
    file.seek(offset)
    size = _bitset_bytes(file.read(16))
    hashed = xxhash.xxh64_intdigest(text.encode())
    block = ((hashed >> 32) * (size // _BLOCK_BYTES)) >> 32
    file.seek(offset + length - size + block * _BLOCK_BYTES)
    words = file.read(_BLOCK_BYTES)
    key = hashed & 0xFFFFFFFF
    bits = [(key * salt & 0xFFFFFFFF) >> 27 for salt in _SALT]
    return all(int.from_bytes(words[4 * n : 4 * n + 4], "little") >> bit & 1 for n, bit in enumerate(bits))


def _bitset_bytes(header: bytes) -> int:
    """`numBytes`, the first field of a BloomFilterHeader in Thrift's compact protocol: a tag, and a zigzag varint."""
    value = shift = 0
    for byte in header[1:]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value >> 1
