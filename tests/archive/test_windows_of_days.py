"""Archived windows are, as columns, what the window lane read and stored: to the last digit, in the same order."""

from dataclasses import fields
from datetime import timedelta

import numpy as np
import pytest

from tests.archive import filled
from tests.archive.test_query import give_up
from tests.archive.traffic import BEFORE, DAY, MIDNIGHT, archive_all, land
from txwatch.archive.datasets import FEATURES, TRANSACTIONS
from txwatch.archive.days import day_span
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.stored import stored_rows
from txwatch.archive.windows import batch_of, count_windows, stored_windows
from txwatch.clock import WINDOW
from txwatch.features.batch import Coins, TransactionBatch
from txwatch.features.store import read_features
from txwatch.store.database import Connection
from txwatch.store.transactions import read_transactions


def assert_same(a: TransactionBatch, b: TransactionBatch) -> None:
    for field in fields(TransactionBatch):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, Coins):
            for name in ("tx", "value", "type", "address"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name, strict=True)
        elif isinstance(one, list):
            assert one == other, field.name
        else:
            np.testing.assert_array_equal(one, other, err_msg=field.name, strict=True)


def test_columns_are_those_made_of_transactions_one_by_one(connection: Connection) -> None:
    filled.fill_day(connection)
    table = next(iter(stored_rows(connection, TRANSACTIONS, *day_span(filled.DAY))))
    transactions = read_transactions(connection, *day_span(filled.DAY))
    assert_same(batch_of(table), TransactionBatch.of(transactions))
    assert_same(batch_of(table.slice(11, 13)), TransactionBatch.of(transactions[11:24]))
    assert_same(batch_of(table.slice(0, 0)), TransactionBatch.of([]))


def test_windows_are_those_of_the_lane_hot_and_given_up(connection: Connection, archive: Archive) -> None:
    windows = land(connection, timedelta(minutes=15), timedelta(minutes=25))
    span = windows[0], windows[-1] + WINDOW
    stored = {window: read_features(connection, window) for window in windows}
    counts = {window: len(of_lane.batch) for window, of_lane in stored.items()}

    def compare() -> None:
        found = list(stored_windows(connection, archive, *span))
        assert [window.start for window in found] == windows
        for window in found:
            assert_same(window.batch, stored[window.start].batch)
            np.testing.assert_array_equal(window.features, stored[window.start].features, strict=True)
        assert count_windows(connection, archive, *span) == counts

    compare()
    archive_all(connection, archive, BEFORE, DAY)
    compare()
    give_up(connection, BEFORE)
    give_up(connection, DAY)
    compare()


def test_features_of_an_older_contract_are_refused(connection: Connection, archive: Archive) -> None:
    land(connection, timedelta(0), timedelta(minutes=5))
    young = FEATURES.schema
    object.__setattr__(FEATURES, "schema", young.remove(young.get_field_index("dust_outputs")))
    try:
        archive_all(connection, archive, DAY)
    finally:
        object.__setattr__(FEATURES, "schema", young)
    with pytest.raises(ArchiveError, match="features of 2024-03-14 are of an older contract"):
        list(stored_windows(connection, archive, MIDNIGHT, MIDNIGHT + WINDOW))
