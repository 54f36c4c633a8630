"""What is read from Postgres as columns is what psycopg reads row by row, wherever one chunk ends."""

from itertools import pairwise

import pyarrow as pa
import pytest

from tests.archive.filled import DAY, NEXT, fill_day, stored
from tests.archive.test_writing import comparable
from tests.builders import transaction
from txwatch.archive.checksum import content
from txwatch.archive.datasets import ALERTS, ARCHIVED, SCORES, TRANSACTIONS, Dataset
from txwatch.archive.days import day_span
from txwatch.archive.stored import stored_rows
from txwatch.store.database import Connection
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import CreatedOutput


def read(connection: Connection, dataset: Dataset) -> list[pa.Table]:
    return list(stored_rows(connection, dataset, *day_span(DAY)))


@pytest.mark.parametrize("dataset", ARCHIVED.values(), ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("at_once", [1, 7, 40, 41])
def test_rows_are_those_of_psycopg_in_chunks_of_any_size(
    connection: Connection, dataset: Dataset, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    monkeypatch.setattr("txwatch.archive.stored.CHUNK_ROWS", at_once)
    tables = read(connection, dataset)
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    assert comparable(rows, dataset) == comparable(stored(connection, dataset, DAY), dataset)
    assert {table.num_rows for table in tables[:-1]} <= {at_once}
    assert content(tables) == content([pa.concat_tables(tables)])


def test_a_chunk_ends_with_the_row_that_fills_it(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_day(connection)
    monkeypatch.setattr("txwatch.archive.stored.CHUNK_BYTES", 2_000)
    tables = read(connection, TRANSACTIONS)
    assert len(tables) > 4
    assert sum(table.num_rows for table in tables) == 40
    times = [moment for table in tables for moment in table["seen_at"].to_pylist()]
    assert all(a <= b for a, b in pairwise(times))


def test_a_day_without_rows_is_no_table(connection: Connection) -> None:
    fill_day(connection, NEXT)
    assert read(connection, TRANSACTIONS) == []
    assert list(stored_rows(connection, ALERTS, None, None)) == []


def test_columns_are_chosen_and_texts_keep_what_json_has_to_escape(connection: Connection) -> None:
    fill_day(connection, rows=5)
    (table,) = stored_rows(connection, SCORES, *day_span(DAY), ("txid", "reasons", "seen_at"))
    assert table.column_names == ["txid", "seen_at", "reasons"]
    assert all("ü" in text and '\\"b\\"' in text for text in table["reasons"].to_pylist())
    odd = 'a "b"\\ \t\n\r,{}[]ü\u2028'
    paid = [CreatedOutput(odd, 5, "p2wpkh", 0), CreatedOutput("", 6, "other", 1)]
    with connection.transaction():
        land_transactions(connection, [transaction(txid="ab" * 32, seen_at=day_span(DAY)[0], outputs=paid)])
    first = next(iter(stored_rows(connection, TRANSACTIONS, *day_span(DAY)))).slice(0, 1).to_pylist()[0]
    assert [coin["addr"] for coin in first["outputs"]] == [odd, ""]
