"""What only the archive has is found by txid, address, amount and time; of the rest next to nothing is read."""

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.archive.filled import DAY, MAX_SAT, NEXT, fill_day
from tests.archive.test_query import NOW, give_up
from tests.archive.test_writing import flip_a_bit
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.days import day_span
from txwatch.archive.look_up import Sought, look_up, rows_of
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.store.database import Connection
from txwatch.wire.transaction import Transaction


@pytest.fixture
def transactions(connection: Connection, archive: Archive) -> list[Transaction]:
    """Two days that only the archive has, the newest transaction first."""
    known = [tx for day in (DAY, NEXT) for tx in fill_day(connection, day, rows=60)]
    for day in (DAY, NEXT):
        for dataset in ARCHIVED.values():
            archive_day(connection, archive, dataset, day, NOW)
        give_up(connection, day)
    return sorted(known, key=lambda tx: (tx.seen_at, tx.txid), reverse=True)


def found(connection: Connection, archive: Archive, sought: Sought, limit: int = 1_000) -> list[str]:
    looked = look_up(connection, archive, sought, limit, seconds=60)
    assert looked.notes == []
    return list(looked.table["txid"].to_pylist())


def test_a_txid_an_address_an_amount_and_a_span_are_found_newest_first(
    connection: Connection, archive: Archive, transactions: list[Transaction]
) -> None:
    one = transactions[70]
    assert found(connection, archive, Sought(txid=one.txid)) == [one.txid]
    assert found(connection, archive, Sought(txid="ab" * 32)) == []
    paid = [tx.txid for tx in transactions if any(coin.addr == "bc1qpaid" for coin in tx.outputs)]
    assert len(paid) > 10
    assert found(connection, archive, Sought(address="bc1qpaid")) == paid
    assert found(connection, archive, Sought(least_sat=MAX_SAT)) == [
        tx.txid for tx in transactions if tx.value_sat == MAX_SAT
    ]
    least, most = 10**8, 5 * 10**8
    between = [tx.txid for tx in transactions if least <= tx.value_sat <= most]
    assert found(connection, archive, Sought(least_sat=least, most_sat=most)) == between
    since, until = transactions[80].seen_at, transactions[20].seen_at
    of_span = [tx.txid for tx in transactions if since <= tx.seen_at < until]
    assert found(connection, archive, Sought(since=since, until=until)) == of_span
    assert found(connection, archive, Sought(since=since, until=until), limit=7) == of_span[:7]


def test_it_goes_on_after_a_row(connection: Connection, archive: Archive, transactions: list[Transaction]) -> None:
    whole = [tx.txid for tx in transactions]
    last = transactions[65]
    assert found(connection, archive, Sought(before=(last.seen_at, last.txid)), limit=10) == whole[66:76]


def test_the_rows_of_a_transaction_in_the_other_datasets(
    connection: Connection, archive: Archive, transactions: list[Transaction]
) -> None:
    one = transactions[70]
    (features,) = rows_of(connection, archive, "features", DAY, one.txid)
    assert features["txid"] == one.txid
    assert {row["model_version"] for row in rows_of(connection, archive, "scores", DAY, one.txid)} == {"1", "2"}
    assert rows_of(connection, archive, "features", NEXT, one.txid) == []
    assert rows_of(connection, archive, "features", DAY - timedelta(days=9), one.txid) == []


def test_what_cannot_be_read_or_not_in_time_is_named_and_the_rest_is_found(
    connection: Connection, archive: Archive, transactions: list[Transaction]
) -> None:
    manifest = archive.manifest(TRANSACTIONS, NEXT)
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, TRANSACTIONS))))
    looked = look_up(connection, archive, Sought(address="bc1qpaid"), 1_000, seconds=60)
    assert looked.notes == ["transactions of 2024-03-15: its file is damaged"]
    assert set(looked.table["txid"].to_pylist()) == {
        tx.txid
        for tx in transactions
        if tx.seen_at < day_span(DAY)[1] and any(c.addr == "bc1qpaid" for c in tx.outputs)
    }
    looked = look_up(connection, archive, Sought(address="bc1qpaid"), 1_000, seconds=-1)
    assert (looked.table.num_rows, looked.notes) == (
        0,
        ["2 days from 2024-03-14 to 2024-03-15 could not be looked through in -1 s"],
    )


def test_only_row_groups_that_may_hold_it_are_read(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.archive.writing.SPAN_ROWS", 128)
    object.__setattr__(TRANSACTIONS, "group_rows", 16)
    try:
        known = fill_day(connection, rows=400)
        archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    finally:
        object.__setattr__(TRANSACTIONS, "group_rows", 16_384)
    give_up(connection, DAY)
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def counted(parquet: pq.ParquetFile, group: int, **options: object) -> object:
        read.append(group)
        return whole(parquet, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert found(connection, archive, Sought(txid=known[200].txid)) == [known[200].txid]
    assert len(read) <= 3, "of 25; a Bloom filter lets one in a hundred pass by mistake"
    read.clear()
    assert found(connection, archive, Sought(since=known[-1].seen_at)) == [known[-1].txid]
    assert len(read) <= 2
    read.clear()
    assert found(connection, archive, Sought(least_sat=MAX_SAT + 1)) == []
    assert read == []
