"""Hot and cold days are one: each row is told once, wherever it is, and a query can do nothing but read them."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from psycopg import sql

from tests.archive.filled import DAY, MAX_SAT, NEXT, fill_day
from tests.archive.test_writing import flip_a_bit
from txwatch.archive.bounded import Limits, QueryError
from txwatch.archive.datasets import ARCHIVED, FEATURES, FORMAT, SCORES, TRANSACTIONS
from txwatch.archive.days import day_span, mark_dropped
from txwatch.archive.manifest import Archive
from txwatch.archive.query import ask
from txwatch.archive.writing import archive_day
from txwatch.store.database import Connection
from txwatch.store.transactions import land_transactions

NOW = datetime.fromisoformat("2024-03-16T00:00Z")
EVERYTHING = {
    "transactions": "SELECT * FROM transactions ORDER BY seen_at, txid",
    "features": "SELECT * FROM features ORDER BY seen_at, txid",
    "scores": "SELECT * FROM scores ORDER BY seen_at, txid, model_version",
}


def rows(database_url: str, archive: Archive | None, query: str, **options: Any) -> list[dict[str, Any]]:
    found, _ = rows_and_notes(database_url, archive, query, **options)
    return found


def rows_and_notes(
    database_url: str, archive: Archive | None, query: str, **options: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    with ask(database_url, archive, query, **options) as answer:
        return pa.Table.from_batches(list(answer.batches), answer.schema).to_pylist(), answer.notes


def give_up(connection: Connection, day: date) -> None:
    """As retention does: the archive alone has the day's rows."""
    for dataset in ARCHIVED.values():
        delete = sql.SQL("DELETE FROM {} WHERE seen_at >= %s AND seen_at < %s").format(sql.Identifier(dataset.table))
        connection.execute(delete, day_span(day))
        mark_dropped(connection, dataset, day, NOW)


def test_rows_are_the_same_hot_archived_and_given_up(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    for day in DAY, NEXT:
        fill_day(connection, day)
    hot = {name: repr(rows(database_url, None, query)) for name, query in EVERYTHING.items()}
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == hot
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, DAY, NOW)
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == hot
    give_up(connection, DAY)
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == hot
    assert "nan" in hot["features"]
    assert str(MAX_SAT) in hot["transactions"]


def test_a_day_that_is_in_both_is_told_once_and_as_the_database_has_it(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    known = fill_day(connection)
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    give_up(connection, DAY)
    late = fill_day(connection, rows=2, seed=2)
    with connection.transaction():
        land_transactions(connection, [structs.replace(known[3], value_sat=7)])
    found = rows(database_url, archive, "SELECT txid, value_sat FROM transactions")
    assert sorted(row["txid"] for row in found) == sorted(tx.txid for tx in known + late)
    assert [row["value_sat"] for row in found if row["txid"] == known[3].txid] == [7]


@pytest.mark.parametrize("older", [DAY, NEXT])
def test_what_files_of_an_older_format_lack_is_null(
    database_url: str, connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch, older: date
) -> None:
    lacking = replace(TRANSACTIONS, schema=pa.schema([one for one in TRANSACTIONS.schema if one.name != "weight"]))
    for day in DAY, NEXT:
        fill_day(connection, day, rows=5)
        with monkeypatch.context() as then:
            then.setattr("txwatch.archive.writing.FORMAT", 1 if day == older else FORMAT)
            archive_day(connection, archive, lacking if day == older else TRANSACTIONS, day, NOW)
        give_up(connection, day)
    known = "SELECT seen_at::DATE AS day, count(weight) AS known, count(*) AS n FROM transactions GROUP BY 1 ORDER BY 1"
    assert rows(database_url, archive, known) == [
        {"day": day, "known": 0 if day == older else 5, "n": 5} for day in (DAY, NEXT)
    ]
    together = rows(database_url, archive, "SELECT * FROM transactions")
    assert list(together[0]) == TRANSACTIONS.schema.names


def test_only_the_days_that_are_asked_for_are_read(database_url: str, connection: Connection, archive: Archive) -> None:
    for day in DAY, NEXT:
        fill_day(connection, day, rows=5)
        archive_day(connection, archive, TRANSACTIONS, day, NOW)
    fill_day(connection, date(2024, 3, 16), rows=5)
    by_day = "SELECT seen_at::DATE AS day, count(*) AS n FROM transactions GROUP BY 1 ORDER BY 1"
    days = [DAY, NEXT, date(2024, 3, 16)]
    assert [row["day"] for row in rows(database_url, archive, by_day)] == days
    assert [row["day"] for row in rows(database_url, archive, by_day, since=NEXT)] == days[1:]
    assert [row["day"] for row in rows(database_url, archive, by_day, until=NEXT)] == days[:2]
    assert [row["day"] for row in rows(database_url, archive, by_day, since=NEXT, until=NEXT)] == [NEXT]
    assert {row["n"] for row in rows(database_url, archive, by_day)} == {5}


@pytest.mark.parametrize("fault", ["missing", "cut", "a bit"])
def test_a_file_that_cannot_be_read_is_named_and_costs_nothing_else(
    database_url: str, connection: Connection, archive: Archive, fault: str
) -> None:
    for day in DAY, NEXT:
        fill_day(connection, day)
        for dataset in ARCHIVED.values():
            manifest = archive_day(connection, archive, dataset, day, NOW)
            if (day, dataset) == (DAY, TRANSACTIONS):
                file = Path(str(archive.file(manifest, dataset)))
    counted = "SELECT count(*) AS n FROM transactions"
    assert rows(database_url, archive, counted) == [{"n": 80}], "it was sound when it was read first"
    if fault == "missing":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        flip_a_bit(file)
    found, notes = rows_and_notes(database_url, archive, counted)
    assert found == [{"n": 80}], "the database has that day still"
    assert len(notes) == 1
    assert notes[0].startswith("transactions of 2024-03-14: its file ")
    assert notes[0].endswith("its rows come from the database.")
    give_up(connection, DAY)
    found, notes = rows_and_notes(database_url, archive, counted)
    assert found == [{"n": 40}]
    assert notes[0].endswith("its rows are missing.")
    assert rows_and_notes(database_url, archive, "SELECT count(*) AS n FROM features") == ([{"n": 80}], [])


@pytest.mark.parametrize("noted", ["", "[]", "7", "[" * 100_000, '{"x": 1}'])
def test_files_are_compared_again_where_what_was_noted_of_them_cannot_be_read(
    database_url: str, connection: Connection, archive: Archive, noted: str
) -> None:
    fill_day(connection)
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    archive.work.mkdir(parents=True)
    (archive.work / "checked.json").write_text(noted)
    assert rows_and_notes(database_url, archive, "SELECT count(*) AS n FROM transactions") == ([{"n": 40}], [])


def test_tables_join(database_url: str, connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    for dataset in TRANSACTIONS, FEATURES, SCORES:
        archive_day(connection, archive, dataset, DAY, NOW)
    connection.execute(
        "INSERT INTO alerts SELECT txid, '{whale,rule:x}', 'high', '[]', false, seen_at, NULL, seen_at"
        " FROM transactions WHERE seen_at >= '2024-03-15' ON CONFLICT DO NOTHING"
    )
    query = (
        "WITH of_model AS (SELECT * FROM scores WHERE model_version = '1')"
        " SELECT t.txid, kinds, f.value_sat FROM transactions t JOIN of_model USING (txid)"
        " JOIN features f USING (txid) LEFT JOIN alerts ON alert_key = t.txid"
    )
    found = rows(database_url, archive, query)
    assert len(found) == 80
    assert sorted({str(row["kinds"]) for row in found}) == ["None", "['whale', 'rule:x']"]


def test_the_transactions_of_an_address_are_found_hot_cold_and_in_both(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    known = fill_day(connection) + fill_day(connection, NEXT)
    addresses = ["bc1qpaid", "bc1qown", known[1].outputs[1].addr or "", "bc1qnobody", "bc1qspent"]
    expected = {
        address: sorted(tx.txid for tx in known if any(coin.addr == address for coin in (*tx.inputs, *tx.outputs)))
        for address in addresses
    }
    assert [len(txids) for txids in expected.values()] == [16, 16, 2, 0, 48]
    query = "SELECT txid FROM transactions"

    def found() -> dict[str, list[str]]:
        return {a: sorted(row["txid"] for row in rows(database_url, archive, query, address=a)) for a in addresses}

    assert found() == expected, "hot"
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert found() == expected, "one day cold"
    give_up(connection, DAY)
    with connection.transaction():
        land_transactions(connection, known[:3])
    assert found() == expected, "a part of it in both"
    counted = rows(database_url, archive, "SELECT count(*) AS n FROM transactions", address="bc1qpaid")
    assert counted == [{"n": 16}]


def test_few_row_groups_are_read_for_an_address(
    database_url: str, connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = TRANSACTIONS.group_rows
    object.__setattr__(TRANSACTIONS, "group_rows", 16)
    try:
        known = fill_day(connection, rows=400)
        archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    finally:
        object.__setattr__(TRANSACTIONS, "group_rows", wide)
    read: list[int] = []
    of_group = pq.ParquetFile.read_row_group

    def counted(parquet: pq.ParquetFile, group: int, **options: Any) -> pa.Table:
        read.append(group)
        return of_group(parquet, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    alone = known[1].outputs[1].addr
    assert [row["txid"] for row in rows(database_url, archive, "SELECT * FROM transactions", address=alone)] == [
        known[1].txid
    ]
    assert 1 <= len(read) <= 3, "of 25"


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM transactions",
        "COPY (SELECT 1) TO 'written.csv'",
        "SELECT 1; SELECT 2",
        "SET enable_external_access = true",
        "ATTACH 'other.db'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SELECT * FROM glob('/*')",
        "INSTALL httpfs",
        "SELECT * FROM query('SELECT * FROM scores')",
        "SELECT * FROM database_url",
        "SELECT current_setting('temp_directory')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM pg_catalog.pg_settings",
        "SELECT * FROM duckdb_tables",
        "WITH a AS (SELECT 1) SELECT (SELECT max(value) FROM duckdb_settings())",
        "SELECT nonsense FROM transactions",
        "SELEC 1",
        "SELECT " + "(" * 20_000,
        "SELECT " + "NOT " * 900 + "true",
        "SELECT '\ud800'",
    ],
    ids=lambda query: query[:40].encode("ascii", "replace").decode(),
)
def test_a_query_can_only_read(database_url: str, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QueryError):
        rows(database_url, None, query)
    assert list(tmp_path.iterdir()) == []


def test_a_query_is_bounded(database_url: str) -> None:
    with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
        rows(database_url, None, "SELECT count(*) FROM range(1000000000000) a", limits=Limits(seconds=0.2))
    some = "SELECT n FROM range(1000000000000) AS a (n) WHERE n < 2048 OR n % 1000000007 = 1"
    with pytest.raises(QueryError, match=r"longer than 1 s"):  # while its second batch is made
        rows(database_url, None, some, limits=Limits(seconds=1))
    greedy = "SELECT list(a.range) FROM range(100000000) a"
    with pytest.raises(QueryError, match="Memory"):
        rows(database_url, None, greedy, limits=Limits(memory_mb=20, temporary_mb=1))
    with ask(database_url, None, "SELECT * FROM range(1000000)", limits=Limits(rows=10_000)) as answer:
        assert sum(batch.num_rows for batch in answer.batches) == 10_000
        assert answer.cut
    with ask(database_url, None, "SELECT repeat('x', 1000) FROM range(100)", limits=Limits(bytes=10_500)) as answer:
        assert sum(batch.num_rows for batch in answer.batches) == 10, "also of the rows that DuckDB makes at once"
        assert answer.cut
    with ask(database_url, None, "SELECT * FROM range(100)", limits=Limits(rows=100)) as answer:
        assert sum(batch.num_rows for batch in answer.batches) == 100
        assert not answer.cut


@pytest.mark.parametrize("ended_by", ["whichever is first", "the database"])
def test_a_query_that_waits_for_the_database_ends_too(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    if ended_by == "the database":
        monkeypatch.setattr("txwatch.archive.query.TimeLeft.running", lambda _: nullcontext())
    with connection.transaction():
        connection.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(QueryError, match="longer than 1 s"):
            rows(database_url, None, "SELECT count(*) FROM transactions", limits=Limits(seconds=1))


def test_without_a_database_it_says_so() -> None:
    with pytest.raises(psycopg.OperationalError):
        rows("postgresql://127.0.0.1:9/none", None, "SELECT 1")
