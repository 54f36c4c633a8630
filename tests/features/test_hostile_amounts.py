"""Amounts that no real traffic has: what a stranger sends must not keep a window from being computed."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec import structs

from tests.builders import T0, transaction
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW
from txwatch.features.live import LiveContext
from txwatch.features.store import read_features
from txwatch.queries.feed import read_feed_spans
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.messages import MAX_SUPPLY_SAT
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

COUNT = 5_000
"""More than a BIGINT holds, of all bitcoin there can ever be."""
ADDRESS = "bc1qhostile"


def all_bitcoin(n: int, spent: int | None = None) -> Transaction:
    return transaction(
        txid=f"{n:064x}",
        seen_at=T0 + timedelta(milliseconds=n),
        value_sat=MAX_SUPPLY_SAT,
        input_sat=spent,
        fee_sat=None if spent is None else 0,
        inputs=[SpentOutput(ADDRESS if spent else None, spent, "p2wpkh", 0)],
        outputs=[CreatedOutput(ADDRESS, MAX_SUPPLY_SAT, "p2wpkh", 0)],
        source="bulk",
    )


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """The test's rows go when it ends."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.mark.parametrize("spent", [None, MAX_SUPPLY_SAT])
def test_sums_have_no_end(connection: Connection, spent: int | None) -> None:
    land_transactions(connection, [all_bitcoin(n, spent) for n in range(COUNT)])
    land_transactions(connection, [transaction(txid="f" * 64, seen_at=T0, source="bulk")])
    after = all_bitcoin(COUNT, MAX_SUPPLY_SAT)
    [published, *_] = materialize(connection, T0, T0 + 3 * WINDOW)
    assert published.tx_count_24h == COUNT + 1
    assert connection.execute("SELECT max(value_sat) FROM network_baseline").fetchone() == (
        COUNT * MAX_SUPPLY_SAT + 9_520,
    )
    assert len(read_features(connection, T0).transactions) == COUNT + 1

    [(_, context)] = LiveContext(connection).split([structs.replace(after, seen_at=T0 + 2 * WINDOW)])
    assert context.addresses[ADDRESS].received_sat == 2**63 - 1
    [span] = read_feed_spans(connection, T0, T0 + WINDOW, WINDOW)
    assert span.value_sat == 2**63 - 1
