"""A day in the archive is the day in the database: to the last digit, whoever wrote it last, and however often."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import psycopg
import pyarrow.parquet as pq
import pytest

from tests.archive.filled import DAY, NEXT, fill_day, stored, write_features
from txwatch.archive.checksum import content
from txwatch.archive.datasets import ARCHIVED, FEATURES, SCORES, TRANSACTIONS, Dataset
from txwatch.archive.days import day_span, read_day
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import read_file, verify_file
from txwatch.archive.stored import stored_rows
from txwatch.archive.writing import archive_day
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

NOW = datetime.fromisoformat("2024-03-16T00:00Z")


def archived(archive: Archive, dataset: Dataset, day: date = DAY) -> list[tuple[object, ...]]:
    """The rows of the archive, in the order and with the values that psycopg would give."""
    manifest = archive.manifest(dataset, day)
    assert manifest is not None
    rows = [tuple(row.values()) for table in read_file(archive, dataset, manifest) for row in table.to_pylist()]
    at = [dataset.schema.names.index(name) for name in ("seen_at", *dataset.key)]
    return sorted(rows, key=lambda row: [row[i] for i in at])


def comparable(rows: list[tuple[object, ...]], dataset: Dataset) -> list[str]:
    """Values as text: NaN is itself then, floats are exact, and what a coin does not say is None."""

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [{k: v for k, v in sorted(one.items()) if v is not None} for one in value]
        return value.isoformat() if isinstance(value, datetime) else value

    json_texts = {dataset.schema.names.index("reasons")} if dataset is SCORES else set()
    return [repr([plain(v) if i not in json_texts else None for i, v in enumerate(row)]) for row in rows]


@pytest.mark.parametrize("dataset", ARCHIVED.values(), ids=lambda dataset: dataset.name)
def test_rows_are_equal_before_and_after(connection: Connection, archive: Archive, dataset: Dataset) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    manifest = archive_day(connection, archive, dataset, DAY, NOW)
    before = stored(connection, dataset, DAY)
    assert len(before) == manifest.rows == manifest.stored_rows == (80 if dataset is SCORES else 40)
    assert comparable(archived(archive, dataset), dataset) == comparable(before, dataset)
    assert manifest.checksum == content(stored_rows(connection, dataset, *day_span(DAY))).checksum


def test_the_columns_are_those_of_the_tables(connection: Connection) -> None:
    for dataset in ARCHIVED.values():
        query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        assert {name for (name,) in connection.execute(query, [dataset.table])} == set(dataset.schema.names)


def test_the_same_day_twice_is_the_same_file(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    first = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    again = archive_day(connection, archive, TRANSACTIONS, DAY, NOW + timedelta(hours=1))
    assert (again.file, again.sha256, again.rows) == (first.file, first.sha256, first.rows)
    assert sorted(path.name for path in (archive.place / "transactions/2024-03").iterdir()) == sorted(  # type: ignore[union-attr, operator]
        [f"{DAY}.json", first.file]
    )


def test_what_is_written_later_is_noticed_and_comes_into_the_next_file(
    connection: Connection, archive: Archive
) -> None:
    known = fill_day(connection)
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, DAY, NOW)
        assert (found := read_day(connection, dataset, DAY)) is not None
        assert found.complete
    late = fill_day(connection, rows=3, seed=2)
    for dataset in ARCHIVED.values():
        assert not read_day(connection, dataset, DAY).complete  # type: ignore[union-attr]
        archive_day(connection, archive, dataset, DAY, NOW)
        assert read_day(connection, dataset, DAY).complete  # type: ignore[union-attr]
        assert {row[0] for row in archived(archive, dataset)} == {tx.txid for tx in known + late}
    connection.execute("DELETE FROM transaction_features WHERE txid = %s", [late[0].txid])
    write_features(connection, late[:1], Random(9))  # noqa: S311
    assert not read_day(connection, FEATURES, DAY).complete  # type: ignore[union-attr]
    archive_day(connection, archive, FEATURES, DAY, NOW)
    before = stored(connection, FEATURES, DAY)
    assert comparable(archived(archive, FEATURES), FEATURES) == comparable(before, FEATURES)


def test_what_only_the_archive_has_stays_in_it(connection: Connection, archive: Archive) -> None:
    known = fill_day(connection)
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    whole = comparable(archived(archive, TRANSACTIONS), TRANSACTIONS)
    connection.execute("DELETE FROM transactions")
    empty = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert (empty.rows, empty.stored_rows) == (40, 0)
    assert comparable(archived(archive, TRANSACTIONS), TRANSACTIONS) == whole
    late = fill_day(connection, rows=2, seed=2)
    with connection.transaction():
        land_transactions(connection, known[:1])  # one that it has already
    manifest = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert (manifest.rows, manifest.stored_rows) == (42, 3)
    assert [row[0] for row in archived(archive, TRANSACTIONS)] == [
        tx.txid for tx in sorted(known + late, key=lambda tx: tx.seen_at)
    ]


def test_a_damaged_file_is_replaced_only_by_all_that_it_had(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    first = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    file = Path(str(archive.file(first, TRANSACTIONS)))
    flip_a_bit(file)
    with pytest.raises(ArchiveError, match="transactions of 2024-03-14: its file is damaged"):
        verify_file(archive, TRANSACTIONS, first)
    connection.execute("CREATE TEMP TABLE kept AS TABLE transactions")
    connection.execute("DELETE FROM transactions WHERE txid = (SELECT min(txid) FROM transactions)")
    with pytest.raises(ArchiveError, match="its file is damaged"):
        archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert archive.manifest(TRANSACTIONS, DAY) == first, "some of it can still be read by hand"
    connection.execute("INSERT INTO transactions SELECT * FROM kept ON CONFLICT DO NOTHING")
    healed = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert (healed.rows, healed.checksum) == (first.rows, first.checksum)
    verify_file(archive, TRANSACTIONS, healed)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def test_a_write_that_began_before_is_waited_for(database_url: str, connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    with psycopg.connect(database_url) as writer:
        writer.execute("UPDATE history_start SET id = id; SELECT pg_current_xact_id()")
        waits: list[float] = []

        def then_it_commits(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                fill_day(writer, rows=1, seed=5)
                writer.commit()

        manifest = archive_day(connection, archive, TRANSACTIONS, DAY, NOW, wait=then_it_commits)
        assert (len(waits), manifest.rows) == (3, 41)
        writer.execute("SELECT pg_current_xact_id()")
        with pytest.raises(ArchiveError, match="have to wait"):
            archive_day(connection, archive, TRANSACTIONS, DAY, NOW, wait=lambda _: None)


def test_rows_that_land_meanwhile_are_left_for_the_next_time(
    database_url: str, connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_day(connection)
    sort = pq.ParquetWriter.write_table

    def land_first(*arguments: object, **options: object) -> None:
        with connect(database_url) as writer:
            fill_day(writer, rows=1, seed=3)
        sort(*arguments, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", land_first)
    assert archive_day(connection, archive, TRANSACTIONS, DAY, NOW).rows == 40
    monkeypatch.undo()
    assert not read_day(connection, TRANSACTIONS, DAY).complete  # type: ignore[union-attr]
    assert archive_day(connection, archive, TRANSACTIONS, DAY, NOW).rows == 41


def test_row_groups_skip_by_time_amount_and_txid(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.archive.writing.SPAN_ROWS", 64)
    monkeypatch.setattr("txwatch.archive.stored.CHUNK_ROWS", 16)
    object.__setattr__(TRANSACTIONS, "group_rows", 16)
    try:
        fill_day(connection, rows=200)
        manifest = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    finally:
        object.__setattr__(TRANSACTIONS, "group_rows", 16_384)
    parquet = pq.ParquetFile(str(archive.file(manifest, TRANSACTIONS)))
    groups = [parquet.metadata.row_group(n) for n in range(parquet.num_row_groups)]
    assert [group.num_rows for group in groups] == [16] * 12 + [8]
    times, values = ([group.column(i).statistics for group in groups] for i in (1, 3))
    assert max(one.max for one in times[:4]) < min(one.min for one in times[4:8]), "a span is of its own hours"
    assert all(a.max <= b.min for a, b in pairwise(values[:4])), "and by amount within"
    assert parquet.schema_arrow.metadata[b"txwatch"].startswith(b'{"dataset": "transactions", "day": "2024-03-14"')


def test_a_file_of_an_older_format_is_read_with_nulls(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_day(connection)
    young = FEATURES.schema
    old = young.remove(young.get_field_index("dust_outputs"))
    object.__setattr__(FEATURES, "schema", old)
    try:
        manifest = archive_day(connection, archive, FEATURES, DAY, NOW)
    finally:
        object.__setattr__(FEATURES, "schema", young)
    tables = list(read_file(archive, FEATURES, manifest))
    assert {table.schema for table in tables} == {young}
    assert sum(table["dust_outputs"].null_count for table in tables) == 40
    assert sum(table["value_sat"].null_count for table in tables) == 0
    monkeypatch.setattr("txwatch.archive.reading.FORMAT", 0)
    with pytest.raises(ArchiveError, match="features of 2024-03-14 were written by a newer version"):
        list(read_file(archive, FEATURES, manifest))
