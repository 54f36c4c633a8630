"""A fee is judged with the unconfirmed parents that it pays for as well."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from tests.builders import T0, coin, spending, transaction
from tests.features.window_lane import materialize
from txwatch.detection.kinds import KINDS
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import CurrentDetectors, find_all
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import UNCONFIRMED, CreatedOutput, SpentOutput, Transaction

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
    """What is said of its fee, but for a tag."""
    found = fee_reasons(connection, tx, median)
    return next((reason for reason in found if reason.kind in {"fee_accident", "package_fee"}), None)


def fee_reasons(connection: Connection, tx: Transaction, median: float | None = None) -> list[Reason]:
    batch = TransactionBatch.of([transaction(txid="e" * 64), tx])
    network = NetworkContext(T0, version=1, median_fee_rate_1h=median)
    features = transaction_features(batch, Context(network))
    assert np.isfinite(features[1]).any()
    found = find_all(CurrentDetectors(500)(connection), batch, features)
    return [reason for reason in found.get(1, []) if reason.kind in {"fee_accident", "package_fee", "package"}]


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


def unconfirmed(txid: str, n: int = 0, value: int = 5_000_000, **changes: Any) -> SpentOutput:
    """Output `n` of an unconfirmed transaction, as a node tells it."""
    return coin(txid, n, value, height=UNCONFIRMED, coinbase=False, **changes)


def numbered(n: int) -> str:
    return f"{n:064x}"


def chain(length: int, *, told: bool = True) -> list[Transaction]:
    """Transactions of 1 sat/vB, each of which spends the one before; the first spends a coin of a block.

    Without `told` their source knows no heights.
    """
    spent = [coin(numbered(999), 0, 5_000_000, height=800_000), *(unconfirmed(numbered(n)) for n in range(1, length))]
    if not told:
        spent = [structs.replace(one, height=None, coinbase=None) for one in spent]
    return [
        spending(numbered(n), one, fee_sat=200, vsize=200, seen_at=NOW - timedelta(seconds=90 - n))
        for n, one in enumerate(spent, 1)
    ]


def payer(*coins: SpentOutput, fee: int = FEE, vsize: int = VSIZE) -> Transaction:
    return spending("c" * 64, *coins, fee_sat=fee, vsize=vsize, seen_at=NOW)


def test_a_truc_parent_without_fee_is_no_news_and_its_child_no_accident(rows: Connection) -> None:
    parent = spending("a" * 64, coin("d" * 64, height=800_000), fee_sat=0, vsize=8_510, version=3, seen_at=NOW)
    child = payer(unconfirmed("a" * 64))
    land_transactions(rows, [parent, child])
    assert [reason.text for reason in fee_reasons(rows, parent, median=50.0)] == ["pays no fee: a child pays for it"]
    assert [(reason.kind, reason.text) for reason in fee_reasons(rows, child, median=50.0)] == [
        ("package", "120.0 sat/vB together with its unconfirmed parent")
    ]
    assert {"fee_sat", "fee_rate_over_median_1h"} <= set(KINDS["package"].accounts_for), "the forest is silent as well"
    far_above = judged(rows, child, median=5.0)
    assert far_above is not None
    assert far_above.text.endswith("; 120 sat/vB together with its unconfirmed parent")


@pytest.mark.parametrize("told", [True, False], ids=["heights are told", "no heights are told"])
@pytest.mark.parametrize(("length", "vsize"), [(20, 4_150), (24, 4_950)])
def test_all_ancestors_are_found_with_their_fees_and_sizes(
    rows: Connection, told: bool, length: int, vsize: int
) -> None:
    ancestors = chain(length, told=told)
    child = payer(structs.replace(unconfirmed(numbered(length)), height=UNCONFIRMED if told else None))
    land_transactions(rows, [*ancestors, child])
    rate = (FEE + length * 200) / vsize
    found = judged(rows, child, median=rate / 20.001)  # features have seven digits
    assert found is not None
    assert found.kind == "fee_accident"
    assert f"; {rate:,.0f} sat/vB together with its unconfirmed {length} parents" in found.text
    assert [reason.kind for reason in fee_reasons(rows, child, median=rate / 2)] == ["package"]


def test_of_more_ancestors_than_a_package_has_it_is_not_certain(rows: Connection) -> None:
    land_transactions(rows, [*chain(25), child := payer(unconfirmed(numbered(25)))])
    found = judged(rows, child)
    assert found is not None
    assert found.kind == "package_fee"


def test_ancestors_by_several_ways_count_once(rows: Connection) -> None:
    top, left, right = (
        spending(letter * 64, *coins, fee_sat=0, vsize=2_000, seen_at=NOW)
        for letter, coins in (
            ("a", [coin("e" * 64, height=800_000)]),
            ("b", [unconfirmed("a" * 64)]),
            ("d", [unconfirmed("a" * 64, 1)]),
        )
    )
    child = payer(unconfirmed("b" * 64), unconfirmed("d" * 64), unconfirmed("d" * 64, 1), fee=1_845_000)
    land_transactions(rows, [top, left, right, child])
    found = judged(rows, child, median=1.0)
    assert found is not None
    assert "; 300 sat/vB together with its unconfirmed 3 parents" in found.text


def test_an_ancestor_that_was_confirmed_by_then_is_none(rows: Connection) -> None:
    ancestors = chain(3)
    land_transactions(rows, [*ancestors, child := payer(unconfirmed(numbered(3)))])
    confirm(rows, ancestors[1], NOW - timedelta(seconds=1))
    found = judged(rows, child, median=1.0)
    assert found is not None
    assert "together with its unconfirmed parent" in found.text


def test_a_coin_of_a_block_has_no_parent_whatever_is_stored(rows: Connection) -> None:
    land_transactions(rows, [*chain(1), child := payer(coin(numbered(1), 0, 5_000_000, height=801_000))])
    found = judged(rows, child)
    assert found is not None
    assert (found.kind, "parent" in found.text) == ("fee_accident", False)


@pytest.mark.parametrize("depth", [1, 2])
def test_an_unconfirmed_ancestor_that_is_not_stored_is_said(rows: Connection, depth: int) -> None:
    land_transactions(rows, chain(3)[-depth + 1 :] if depth > 1 else [])
    found = judged(rows, payer(unconfirmed(numbered(3))))
    assert found is not None
    assert (found.kind, "may pay for unconfirmed parents" in found.text) == ("package_fee", True)


def test_what_is_not_stored_and_not_told_to_be_unconfirmed_is_of_a_block(rows: Connection) -> None:
    found = judged(rows, payer(coin("e" * 64)))
    assert found is not None
    assert found.kind == "fee_accident"


class TestMixedSources:
    def test_a_parent_that_is_guessed_has_ancestors_that_are_told(self, rows: Connection) -> None:
        guessed = spending(
            "a" * 64, unconfirmed(numbered(2)), fee_sat=0, vsize=8_110, seen_at=NOW, outputs=[COIN], output_count=1
        )
        land_transactions(rows, [*chain(2), guessed, child()])
        found = judged(rows, child(), median=1.0)
        assert found is not None
        assert "; 120 sat/vB together with its unconfirmed 3 parents" in found.text

    def test_a_parent_whose_source_tells_no_outpoints_is_found_by_txid(self, rows: Connection) -> None:
        other = parent("b", vsize=8_510)
        land_transactions(rows, [parent(), other, payer(unconfirmed("a" * 64))])
        assert judged(rows, payer(unconfirmed("a" * 64))) is None, "another one that made such a coin does not matter"

    def test_coins_of_both_sorts_in_one_transaction(self, rows: Connection) -> None:
        alike = structs.replace(COIN, addr="bc1qalike")
        spent = SpentOutput(alike.addr, alike.value, alike.type, alike.n)
        land_transactions(rows, [parent("a"), parent("b", alike), payer(unconfirmed("a" * 64), spent)])
        found = judged(rows, payer(unconfirmed("a" * 64), spent), median=1.0)
        assert found is not None
        assert "; 61 sat/vB together with its unconfirmed 2 parents" in found.text
