"""The live lane keeps one version of the context for a window, and swaps it when the window rolls over."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, transaction
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW, context_window
from txwatch.features.context import Context, NetworkContext
from txwatch.features.live import LiveContext
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import SpentOutput, Transaction

W = T0 + 2 * WINDOW
"""The window that is live; its context is that as of T0."""


def payment(n: int, at: datetime, address: str = "bc1qspent") -> Transaction:
    return transaction(txid=f"{n:064x}", seen_at=at, inputs=[SpentOutput(address, 10_740, "p2wpkh", 0)], source="bulk")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """The test's rows go when it ends."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        land_transactions(connection, [payment(n, T0 + timedelta(seconds=n)) for n in range(1, 4)])
        yield connection


def contexts(live: LiveContext, *transactions: Transaction) -> list[Context]:
    return [context for _, context in live.split(transactions)]


def test_a_context_that_is_late_is_used_from_when_it_is_there(connection: Connection) -> None:
    live = LiveContext(connection)
    (before,) = contexts(live, payment(9, W))
    assert before == Context(NetworkContext(T0, version=0))
    (published,) = materialize(connection, T0, T0 + WINDOW)
    (after,) = contexts(live, payment(10, W + timedelta(seconds=1)))
    assert after.network == published
    assert after.addresses["bc1qspent"].tx_count == 3


def test_what_is_published_again_waits_for_the_next_window(connection: Connection) -> None:
    materialize(connection, T0, T0 + 2 * WINDOW)
    live = LiveContext(connection)
    (first,) = contexts(live, payment(9, W))
    land_transactions(connection, [payment(5, T0 + timedelta(seconds=9)), payment(6, T0, "bc1qnew")])
    assert [context.version for context in materialize(connection, T0, T0 + 2 * WINDOW)] == [2, 2]

    (same,) = contexts(live, payment(10, W + timedelta(seconds=9)))
    assert same == first
    (unseen,) = contexts(live, payment(11, W + timedelta(seconds=9), "bc1qnew"))
    assert "bc1qnew" not in unseen.addresses, "as published: it was not known then"
    (rolled,) = contexts(live, payment(12, W + WINDOW))
    assert (rolled.network.as_of, rolled.network.version) == (T0 + WINDOW, 2)
    assert rolled.addresses["bc1qspent"].tx_count == 4


def test_a_batch_over_the_boundary_has_a_context_for_each_side(connection: Connection) -> None:
    materialize(connection, T0, T0 + 2 * WINDOW)
    last, first = payment(9, W + WINDOW - timedelta(microseconds=1)), payment(10, W + WINDOW)
    groups = list(LiveContext(connection).split([first, last]))
    assert [batch for batch, _ in groups] == [[last], [first]]
    assert [context.network.as_of for _, context in groups] == [context_window(W), context_window(W + WINDOW)]


def test_addresses_are_asked_for_once_in_a_window(connection: Connection) -> None:
    materialize(connection, T0, T0 + WINDOW)
    asked: list[datetime] = []

    def lookup(as_of: datetime) -> NetworkContext:
        asked.append(as_of)
        return NetworkContext(as_of, version=1, publication=99)

    live = LiveContext(connection, lookup)
    (first,) = contexts(live, payment(9, W), payment(10, W, "bc1qother"))
    connection.execute("DELETE FROM address_activity")
    (again,) = contexts(live, payment(11, W))
    assert again.addresses == first.addresses
    assert asked == [T0]
