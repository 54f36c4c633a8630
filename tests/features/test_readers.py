"""Whoever reads stored features gets the values that were computed, to the last digit; a window is written once."""

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from tests.builders import T0
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.feast import _stored_features
from txwatch.features.store import read_features, read_named_features, read_recent_features, write_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.queries.transactions import read_own_features
from txwatch.rules.document import read_yaml
from txwatch.rules.evaluate import RuleSet
from txwatch.rules.look_ups import LookUps
from txwatch.rules.parse import parse_rule
from txwatch.rules.windows import read_candidates
from txwatch.store.database import Connection, connect
from txwatch.store.locks import Lock, wait_for
from txwatch.store.transactions import land_transactions

END = T0 + 3 * WINDOW
ANY = "name: any\ntext: Any\nseverity: low\nwhen:\n  value_sat >= 0 sat\n"


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(
                connection, [tx.transaction("bulk") for tx in Simulator(seed=5, start=T0, rate=1).until(END)]
            )
        materialize(connection, T0, END)
        yield connection


def test_all_readers_give_what_was_computed(connection: Connection) -> None:
    window = END - WINDOW
    [computed] = write_features(connection, window, END)
    batch, expected = computed.batch, computed.features
    assert len(batch) > 100
    assert not np.isnan(expected[:, FEATURE_NAMES.index("fee_rate_over_median_1h")]).all(), "there is a context"
    np.testing.assert_array_equal(read_features(connection, window).features, expected)
    np.testing.assert_array_equal(read_recent_features(connection, window), expected)
    candidates = read_candidates(connection, RuleSet([parse_rule(read_yaml(ANY))]), window, LookUps.stored(connection))
    np.testing.assert_array_equal(candidates.features, expected)
    seen_at = {tx.txid: tx.seen_at for tx in read_features(connection, window).transactions}
    named = read_named_features(connection, seen_at)
    for txid, row in zip(batch.txids, expected, strict=True):
        np.testing.assert_array_equal(named[txid], row)
    for txid, row in list(zip(batch.txids, expected, strict=True))[:5]:
        own = read_own_features(connection, txid)
        assert own is not None
        np.testing.assert_array_equal(list(own.values()), row)
        [stored] = _stored_features(connection, txid)
        np.testing.assert_array_equal([stored[name] for name in FEATURE_NAMES], row)


def test_a_window_is_written_by_one_at_a_time(connection: Connection, database_url: str) -> None:
    def rows() -> int:
        [(count,)] = connection.execute("SELECT count(*) FROM transaction_features").fetchall()
        return int(count)

    before = rows()
    with connect(database_url) as other:
        other.execute("SET lock_timeout = '1ms'")
        with connection.transaction():
            wait_for(connection, Lock.FEATURES, of=T0.isoformat())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                list(write_features(other, T0, T0 + WINDOW))
            other.rollback()
            list(write_features(other, T0 + WINDOW, T0 + 2 * WINDOW))
        list(write_features(other, T0, T0 + WINDOW))
    assert rows() == before, "what is written again takes the place of what was there"
