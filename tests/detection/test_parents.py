"""A fee is judged with the unconfirmed parents that it pays for as well."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from tests.builders import T0, transaction
from tests.features.window_lane import materialize
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import CurrentDetectors, find_all
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

NOW = T0 + timedelta(hours=3)
COIN = CreatedOutput("bc1qparent", 5_000_000, "p2wpkh", 1)
FEE, VSIZE = 1_039_200, 150


def child(*coins: CreatedOutput, seen_at: datetime = NOW) -> Transaction:
    """It pays 6,928 sat/vB for itself."""
    spent = [SpentOutput(coin.addr, coin.value, coin.type, coin.n) for coin in coins or (COIN,)]
    value = sum(coin.value for coin in coins or (COIN,)) - FEE
    outputs = [CreatedOutput("bc1qchild", value, "p2wpkh", 0)]
    return transaction(
        txid="c" * 64, seen_at=seen_at, fee_sat=FEE, vsize=VSIZE, value_sat=value, inputs=spent, outputs=outputs
    )


def parent(letter: str = "a", *coins: CreatedOutput, **changes: Any) -> Transaction:
    """It pays nothing, and is as large as its child pays 120 sat/vB for both."""
    values = {"seen_at": NOW - timedelta(seconds=5), "fee_sat": 0, "vsize": 8_510, "version": 3}
    return transaction(txid=letter * 64, outputs=list(coins or (COIN,)), **(values | changes))


@pytest.fixture
def rows(database_url: str) -> Iterator[Connection]:
    """The test's rows go when it ends."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        yield connection


def confirm(connection: Connection, tx: Transaction, at: datetime, *, stale: bool = False) -> None:
    connection.execute(
        "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count, stale) VALUES ('f0', 7, %s, %s, 1, %s)",
        [at, at, stale],
    )
    connection.execute("INSERT INTO confirmations (txid, block_hash) VALUES (%s, 'f0')", [tx.txid])


def judged(connection: Connection, tx: Transaction, median: float | None = None) -> Reason | None:
    """What is said of its fee."""
    batch = TransactionBatch.of([transaction(txid="e" * 64), tx])
    network = NetworkContext(T0, version=1, median_fee_rate_1h=median)
    features = transaction_features(batch, Context(network))
    assert np.isfinite(features[1]).any()
    found = find_all(CurrentDetectors(500)(connection), batch, features)
    return next((reason for reason in found.get(1, []) if reason.kind in {"fee_accident", "package_fee"}), None)


def test_a_child_that_pays_for_its_parent_is_no_accident(rows: Connection) -> None:
    land_transactions(rows, [parent(), child()])
    assert judged(rows, child()) is None
    assert judged(rows, child(), median=7.0) is None
    above = judged(rows, child(), median=5.0)
    assert above is not None
    assert above.kind == "fee_accident"
    assert above.text.endswith(
        "1,386 times the median of the last hour; 120 sat/vB together with its unconfirmed parent"
    )


def test_a_fee_that_pays_for_no_parent_is_an_accident(rows: Connection) -> None:
    land_transactions(rows, [parent("a", structs.replace(COIN, value=4_999_999)), child()])
    alone = judged(rows, child())
    assert alone is not None
    assert alone.kind == "fee_accident"
    assert "parent" not in alone.text


CASES = {
    "of two that made such a coin": [parent("a"), parent("b")],
    "of one whose fee nobody knows": [parent(fee_sat=None, input_sat=None)],
    "of one beside one that was confirmed": [parent("a"), parent("d", seen_at=NOW - timedelta(minutes=9))],
}


@pytest.mark.parametrize("parents", CASES.values(), ids=CASES)
def test_what_cannot_be_told_is_said_and_not_critical(rows: Connection, parents: list[Transaction]) -> None:
    land_transactions(rows, [*parents, child()])
    if parents[-1].txid[0] == "d":
        confirm(rows, parents[-1], NOW - timedelta(minutes=1))
    unclear = judged(rows, child())
    assert unclear is not None
    assert unclear.kind == "package_fee"
    assert "may pay for unconfirmed parents" in unclear.text


@pytest.mark.parametrize(
    ("confirmed_at", "stale", "kind"),
    [
        (NOW - timedelta(seconds=1), False, "fee_accident"),
        (NOW - timedelta(seconds=1), True, None),
        (NOW + timedelta(seconds=1), False, None),
    ],
)
def test_a_parent_counts_while_it_was_unconfirmed(
    rows: Connection, confirmed_at: datetime, stale: bool, kind: str | None
) -> None:
    """As of when the child was seen, so that its window says later what was said at once."""
    land_transactions(rows, [parent(), child()])
    confirm(rows, parent(), confirmed_at, stale=stale)
    found = judged(rows, child())
    assert (found and found.kind) == kind


def test_what_comes_after_the_child_is_no_parent(rows: Connection) -> None:
    land_transactions(rows, [parent(seen_at=NOW + timedelta(seconds=1)), child()])
    assert judged(rows, child()) is not None


def test_parents_of_all_inputs_are_counted_once(rows: Connection) -> None:
    others = [structs.replace(COIN, addr=None, value=3_000_001, type="p2a"), structs.replace(COIN, value=7)]
    land_transactions(rows, [parent("a", COIN, others[1], vsize=900), parent("b", others[0], vsize=900)])
    found = judged(rows, child(COIN, *others))
    assert found is not None
    assert "; 533 sat/vB together with its unconfirmed 2 parents" in found.text


def test_a_parent_of_long_ago_is_found_by_its_address(rows: Connection) -> None:
    long_ago = parent(seen_at=T0 + timedelta(seconds=7), source="bulk")
    land_transactions(rows, [long_ago])
    assert judged(rows, child()) is not None
    materialize(rows, T0, T0 + timedelta(minutes=5))
    assert judged(rows, child()) is None


def test_thousands_of_coins_alike_cost_one_look(rows: Connection) -> None:
    dust = [CreatedOutput(f"bc1q{n}", 546, "p2wpkh", n) for n in range(4_000)]
    others = [structs.replace(coin, addr=f"1{n}") for n, coin in enumerate(dust)]
    land_transactions(rows, [parent("a", *dust), parent("b", *others)])
    rows.execute("SET LOCAL statement_timeout = '60s'")
    found = judged(rows, child(*dust, *dust, CreatedOutput("bc1qlarge", FEE, "p2wpkh", 0)))
    assert found is None, "paid for one parent"
