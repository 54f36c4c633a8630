"""Find the transactions of an address in archived days, and read little else.

DuckDB looks for no list's element in the filters that a Parquet file has of it. So the row groups that may hold the
address are found here, by the Bloom filters of `inputs.addr` and `outputs.addr`; a few of a hundred hold it by mistake.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from txwatch.archive.datasets import TRANSACTIONS, as_current

LISTS = ("inputs", "outputs")
PATHS = tuple(f"{name}.list.element.addr" for name in LISTS)
_SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
"""Of Parquet's split block Bloom filter (parquet-format, BloomFilter.md)."""
_BLOCK_BYTES = 32


class TooSlowError(Exception):
    """It takes longer than it may."""


def transactions_of(files: Sequence[Path], address: str, seconds: float) -> pa.Table:
    """The archived transactions that spend from an address or pay to it. Raises TooSlowError after so many seconds."""
    until = time.monotonic() + seconds
    found = [TRANSACTIONS.schema.empty_table()]
    for file in files:
        if time.monotonic() > until:
            raise TooSlowError
        found += [as_current(table, TRANSACTIONS.schema) for table in _in_file(file, address)]
    return pa.concat_tables(found)


def with_address(table: pa.Table, address: str) -> pa.Table:
    """The rows of a table of transactions that spend from an address or pay to it."""
    places: set[int] = set()
    for name in LISTS:
        coins = table[name].combine_chunks()
        of_it = pc.equal(coins.flatten().field("addr"), address).fill_null(False)
        places.update(pc.list_parent_indices(coins).filter(of_it).to_pylist())
    return table.take(pa.array(sorted(places), pa.int64()))


def _in_file(path: Path, address: str) -> Iterator[pa.Table]:
    with path.open("rb") as file, pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            columns = parquet.metadata.row_group(group)
            of_addresses = [
                column
                for column in (columns.column(n) for n in range(columns.num_columns))
                if column.path_in_schema in PATHS
            ]
            if any(filter_may_hold(file, column, address) for column in of_addresses):
                found = with_address(parquet.read_row_group(group, use_threads=False), address)
                if found.num_rows:
                    yield found


def filter_may_hold(file: BinaryIO, column: pq.ColumnChunkMetaData, text: str) -> bool:
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
