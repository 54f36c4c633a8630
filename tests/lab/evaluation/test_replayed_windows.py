"""Traffic replayed in memory has the features that the window lane stores of it, to the last digit."""

from datetime import timedelta

import numpy as np

from tests.features.window_lane import materialize
from tests.modelling import START, traffic, windows
from txwatch.clock import WINDOW
from txwatch.features.store import read_features
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions


def test_replayed_features_are_those_of_the_store(database_url: str) -> None:
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(connection, traffic(minutes=20).transactions)
        for start in (START + n * WINDOW for n in range(4)):
            with connection.transaction():
                materialize(connection, start, start + WINDOW)
        for window in windows(minutes=20):
            stored = read_features(connection, window.start)
            rows = {tx.txid: row for row, tx in enumerate(window.transactions)}
            order = [rows[tx.txid] for tx in stored.transactions]
            assert len(order) == len(window.transactions)
            np.testing.assert_array_equal(stored.features, window.features[order])


def test_windows_come_in_order_and_hold_everything_once() -> None:
    replayed = windows(minutes=20)
    assert [w.start for w in replayed] == [START + n * WINDOW for n in range(4)]
    assert sum(len(w.transactions) for w in replayed) == len(traffic(minutes=20))
    assert [w.context.network.version for w in replayed] == [0, 0, 1, 1]
    assert replayed[3].context.network.as_of == START + timedelta(minutes=5)
