"""Which price holds at a moment: the one that was known then, for an hour from when it held."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from tests.builders import T0
from txwatch.clock import WINDOW, window_start
from txwatch.store.database import Connection, connect
from txwatch.store.prices import MOST_AGE, SETTLED, StoredPrices, insert_price, newest_noted_at, price_at
from txwatch.wire.prices import Price

MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)


def a_price(usd: float, told_at: float = 0) -> Price:
    return Price(usd, T0 + told_at * MINUTE, "blockchain.info")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        yield connection


def test_the_price_at_a_moment_is_the_newest_that_was_known_then(connection: Connection) -> None:
    insert_price(connection, a_price(60_000), T0)
    insert_price(connection, a_price(61_000, told_at=5), T0 + 5 * MINUTE)
    # It held before the other one, and came later.
    insert_price(connection, a_price(62_000, told_at=4), T0 + 6 * MINUTE)
    known = [price_at(connection, T0 + minutes * MINUTE) for minutes in (-0.01, 0, 4.99, 5, 6)]
    assert [price and price.usd for price in known] == [None, 60_000, 60_000, 61_000, 62_000]
    assert known[-1] == a_price(62_000, told_at=4)
    assert newest_noted_at(connection) == T0 + 6 * MINUTE


def test_a_price_is_used_for_an_hour_from_when_it_held(connection: Connection) -> None:
    insert_price(connection, a_price(60_000, told_at=-10), T0)
    end = T0 - 10 * MINUTE + MOST_AGE
    assert price_at(connection, end - MICROSECOND) is not None
    assert price_at(connection, end) is None


def test_a_window_is_judged_at_one_price_which_is_settled_before_it_begins(connection: Connection) -> None:
    window = window_start(T0) + WINDOW
    insert_price(connection, Price(60_000, T0, "blockchain.info"), window - SETTLED)
    insert_price(connection, Price(61_000, T0, "blockchain.info"), window - SETTLED + MICROSECOND)
    price_of = StoredPrices(connection)
    assert [price_of(window), price_of(window + WINDOW - MICROSECOND)] == [60_000, 60_000]
    insert_price(connection, Price(62_000, window, "blockchain.info"), window + MINUTE)
    assert [price_of(window), StoredPrices(connection)(window)] == [60_000, 60_000], "a later lane sees no other one"
    assert price_of(window + WINDOW) == 62_000
    assert price_of(window - WINDOW) is None


@pytest.mark.parametrize("usd", [0.0, -1.0, float("nan"), float("inf")])
def test_the_table_takes_no_wild_price(connection: Connection, usd: float) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        insert_price(connection, a_price(usd), T0)
