"""A day's rows are each told once, from the file where that has them all, and from the database where it does not."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.archive.filled import DAY, fill_day
from tests.archive.test_query import NOW, give_up
from tests.archive.test_writing import flip_a_bit
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.days import day_span
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import day_rows
from txwatch.archive.writing import archive_day
from txwatch.store.database import Connection

COLUMNS = ("txid", "seen_at", "value_sat")
START, END = day_span(DAY)


def told(connection: Connection, archive: Archive | None, **options: object) -> list[str]:
    tables = day_rows(connection, archive, TRANSACTIONS, DAY, COLUMNS, **options)  # type: ignore[arg-type]
    return sorted(txid for table in tables for txid in table["txid"].to_pylist())


def archived(connection: Connection, archive: Archive) -> None:
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, DAY, NOW)


def test_each_row_is_told_once_before_and_after_the_database_gives_it_up(
    connection: Connection, archive: Archive
) -> None:
    known = sorted(tx.txid for tx in fill_day(connection))
    assert told(connection, None) == told(connection, archive) == known
    archived(connection, archive)
    assert told(connection, archive) == known
    connection.execute("CREATE TEMP TABLE kept AS TABLE transactions")
    give_up(connection, DAY)
    assert told(connection, archive) == known
    assert told(connection, None) == []
    # One of them lands again, and one that nobody had.
    connection.execute("INSERT INTO transactions SELECT * FROM kept ORDER BY txid LIMIT 1")
    late = fill_day(connection, rows=1, seed=2)
    assert told(connection, archive) == sorted([*known, late[0].txid])


def test_only_a_span_and_only_these_columns_are_read(connection: Connection, archive: Archive) -> None:
    transactions = fill_day(connection, rows=60)
    noon = START + timedelta(hours=12)
    before = sorted(tx.txid for tx in transactions if tx.seen_at < noon)
    assert 0 < len(before) < 60
    assert told(connection, archive, span=(START, noon)) == before
    archived(connection, archive)
    assert told(connection, archive, span=(START, noon)) == before
    table = next(iter(day_rows(connection, archive, TRANSACTIONS, DAY, COLUMNS, (noon, END))))
    assert table.column_names == list(COLUMNS)


def test_a_damaged_file_is_an_error_only_where_the_database_lacks_the_day(
    connection: Connection, archive: Archive
) -> None:
    known = sorted(tx.txid for tx in fill_day(connection))
    archived(connection, archive)
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, TRANSACTIONS))))
    assert told(connection, archive) == known
    give_up(connection, DAY)
    with pytest.raises(ArchiveError, match="transactions of 2024-03-14: its file is damaged"):
        told(connection, archive)
