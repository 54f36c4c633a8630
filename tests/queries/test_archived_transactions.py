"""A transaction that only the archive has is told as one that the database has, with its day in the archive."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.archive.filled import drop_all
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.archive.traffic import DAY, archive_all, land, score
from tests.modelling import model
from txwatch.archive.datasets import FEATURES, TRANSACTIONS
from txwatch.archive.look_up import Sought
from txwatch.archive.manifest import Archive
from txwatch.queries.history import ArchiveBusyError, History
from txwatch.queries.transactions import list_transactions, read_transaction_detail
from txwatch.store.database import Connection, connect


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", tmp_path / "work")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        drop_all(connection)
        score(connection, land(connection, timedelta(0), timedelta(minutes=10)), model(minutes=20, trees=20))
        yield connection


def txids(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT txid FROM transactions ORDER BY seen_at DESC, txid DESC").fetchall()
    return [txid for (txid,) in rows]


def test_a_transaction_is_told_alike_before_and_after(connection: Connection, archive: Archive) -> None:
    known = txids(connection)[::150]
    before = [read_transaction_detail(connection, txid) for txid in known]
    archive_all(connection, archive, DAY)
    give_up(connection, DAY)
    history = History(archive)
    for txid, stored in zip(known, before, strict=True):
        assert read_transaction_detail(connection, txid) is None
        detail, missing = history.transaction(connection, txid)
        assert missing == []
        assert stored is not None
        assert detail is not None
        # Percentiles are among the newest transactions, of which the database has none now.
        bare = [replace(feature, percentile=None) for feature in stored.features]
        assert detail == replace(stored, archived=DAY, features=bare)
    assert history.transaction(connection, "ab" * 32) == (None, [])
    assert History(None).transaction(connection, known[0]) == (None, [])


def test_pages_go_through_all_of_it_once_and_leave_out_what_the_database_has(
    connection: Connection, archive: Archive
) -> None:
    whole = list_transactions(connection, limit=500).items
    archive_all(connection, archive, DAY)
    connection.execute("CREATE TEMP TABLE kept AS TABLE transactions")
    give_up(connection, DAY)
    history, paged, cursor = History(archive), [], None
    while len(paged) < 400:
        page = history.page(connection, Sought(), 70, cursor)
        assert page.missing == []
        paged += page.items
        cursor = page.next
        assert cursor is not None
    assert paged == whole[: len(paged)]
    connection.execute("INSERT INTO transactions SELECT * FROM kept WHERE txid = %s", [whole[0].txid])
    assert history.page(connection, Sought(), 3).items == whole[1:3]
    least, most = sorted((whole[5].value_sat, whole[6].value_sat))
    found = history.page(connection, Sought(least_sat=least, most_sat=most), 500).items
    assert {whole[5].txid, whole[6].txid} <= {one.txid for one in found}
    assert all(least <= one.value_sat <= most for one in found)
    assert History(None).page(connection, Sought(), 3).items == []


def test_a_day_that_cannot_be_read_is_named(connection: Connection, archive: Archive) -> None:
    (txid, *_) = txids(connection)
    archive_all(connection, archive, DAY)
    give_up(connection, DAY)
    history = History(archive)
    for dataset, lost in ((FEATURES, "features"), (TRANSACTIONS, "transactions")):
        manifest = archive.manifest(dataset, DAY)
        assert manifest is not None
        flip_a_bit(Path(str(archive.file(manifest, dataset))))
        detail, missing = history.transaction(connection, txid)
        assert missing == [f"{lost} of 2024-03-14: its file is damaged"]
        assert (detail is None) == (dataset is TRANSACTIONS)
    assert history.page(connection, Sought(), 3).missing == ["transactions of 2024-03-14: its file is damaged"]


def test_no_more_ask_at_once_than_may(connection: Connection, archive: Archive) -> None:
    history = History(archive, at_once=1)
    with history._turn():
        with pytest.raises(ArchiveBusyError, match="as many questions as it may at once"):
            history.page(connection, Sought(), 3)
        with pytest.raises(ArchiveBusyError):
            history.transaction(connection, "ab" * 32)
    assert history.page(connection, Sought(), 3).items == []
