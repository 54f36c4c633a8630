"""A replacement that leaves out whom the replaced transaction paid is found, and an ordinary fee bump is not."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, coin, spending
from txwatch.detection.conflicts import left_out
from txwatch.detection.rules import CurrentDetectors, find_all
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection, connect
from txwatch.store.life import Removal, land_spends, record_removals
from txwatch.store.sightings import Sighting, land_sightings
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
COIN = coin("ab" * 32, value=2 * BTC)
SHOP, CHANGE = "bc1qshop", COIN.addr or ""
PAID = spending("1" * 64, COIN, pays=[(SHOP, BTC // 2), (CHANGE, 3 * BTC // 2 - 1_000)], seen_at=T0)


def later(txid: str, *pays: tuple[str, int], seconds: int = 20, **changes: object) -> Transaction:
    return spending(txid * 64, COIN, pays=pays, seen_at=T0 + timedelta(seconds=seconds), **changes)


BUMP = later("2", (SHOP, BTC // 2), (CHANGE, 3 * BTC // 2 - 9_000))
CANCEL = later("3", (CHANGE, 2 * BTC - 9_000))


@pytest.fixture
def rows(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        yield connection


def land(connection: Connection, *told: Transaction, by: str = "a node") -> None:
    land_transactions(connection, told)
    land_spends(connection, told)
    land_sightings(connection, [Sighting(tx.txid, by, tx.seen_at) for tx in told])


def redirected(connection: Connection, *txs: Transaction) -> dict[str, list[str]]:
    batch = TransactionBatch.of(txs)
    features = transaction_features(batch, Context(NetworkContext(T0, version=0)))
    found = find_all(CurrentDetectors(500)(connection), batch, features)
    texts = {
        batch.txids[row][0]: [reason.text for reason in reasons if reason.kind == "replacement_redirected"]
        for row, reasons in found.items()
    }
    return {txid: reasons for txid, reasons in texts.items() if reasons}


def test_a_cancelled_payment_is_told_of_and_a_bumped_fee_is_not(rows: Connection) -> None:
    land(rows, PAID, BUMP)
    assert redirected(rows, PAID, BUMP) == {}
    land(rows, CANCEL)
    assert redirected(rows, PAID, BUMP, CANCEL) == {
        "3": [f"takes the place of {txid * 8}…, which paid 0.5 BTC to {SHOP}: this one does not" for txid in "12"]
    }


def test_what_another_one_had_replaced_is_not_replaced_again(rows: Connection) -> None:
    land(rows, PAID, BUMP, CANCEL)
    record_removals(rows, [Removal(PAID.txid, "a node", BUMP.seen_at, BUMP.txid)])
    assert redirected(rows, CANCEL)["3"] == [
        f"takes the place of 22222222…, which paid 0.5 BTC to {SHOP}: this one does not"
    ]


def test_what_a_source_calls_replaced_needs_no_second_witness(rows: Connection) -> None:
    land(rows, PAID, by="one")
    land(rows, CANCEL, by="another")
    assert redirected(rows, CANCEL) == {}, "each may hold its own: a double spend, and no replacement"
    record_removals(rows, [Removal(PAID.txid, "one", CANCEL.seen_at, CANCEL.txid)])
    assert redirected(rows, CANCEL)["3"]


def confirm(connection: Connection, tx: Transaction, at: datetime) -> None:
    connection.execute(
        "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count) VALUES ('f0', 7, %s, %s, 1)", [at, at]
    )
    connection.execute("INSERT INTO confirmations (txid, block_hash) VALUES (%s, 'f0')", [tx.txid])


def test_what_was_confirmed_is_not_replaced(rows: Connection) -> None:
    land(rows, PAID, CANCEL)
    confirm(rows, PAID, T0 + timedelta(seconds=10))
    assert redirected(rows, CANCEL) == {}


def test_the_order_in_which_they_were_seen_decides_not_that_of_landing(rows: Connection) -> None:
    land(rows, CANCEL)
    land(rows, PAID)
    assert redirected(rows, PAID) == {}
    assert redirected(rows, CANCEL)["3"]


def test_small_amounts_are_ordinary(rows: Connection) -> None:
    small = spending("4" * 64, COIN, pays=[(SHOP, BTC // 10 - 1), (CHANGE, BTC)], seen_at=T0)
    land(rows, small, CANCEL)
    assert redirected(rows, CANCEL) == {}


def test_all_that_is_left_out_is_counted_by_address(rows: Connection) -> None:
    batch = spending("5" * 64, COIN, pays=[("a", BTC // 2), ("b", BTC // 4), ("a", 7), (CHANGE, BTC)], seen_at=T0)
    assert left_out(batch, {CHANGE}) == {"a": BTC // 2 + 7, "b": BTC // 4}
    assert left_out(batch, {"a", CHANGE}) == {"b": BTC // 4}
    assert left_out(batch, {"a", "b"}) == {}, "change is nothing that was paid"
    land(rows, batch, CANCEL)
    assert redirected(rows, CANCEL)["3"] == [
        "takes the place of 55555555…, which paid 0.75000007 BTC to 2 addresses: this one does not"
    ]


def test_what_becomes_known_later_changes_nothing(rows: Connection) -> None:
    """Both lanes say the same."""
    land(rows, PAID, by="one")
    land(rows, CANCEL, by="another")
    soon = CANCEL.seen_at + timedelta(seconds=1)
    land_sightings(rows, [Sighting(CANCEL.txid, "one", soon)])
    record_removals(rows, [Removal(PAID.txid, "one", soon, CANCEL.txid)])
    assert redirected(rows, CANCEL) == {}


def test_of_several_that_are_told_at_one_moment_none_replaces_its_successor(rows: Connection) -> None:
    middle = spending("9" * 64, COIN, pays=[("bc1qmiddle", BTC)], seen_at=T0)
    last = spending("4" * 64, COIN, pays=[("bc1qlast", BTC)], seen_at=T0)
    land(rows, PAID, middle, last)
    removals = [Removal(PAID.txid, "a node", T0, middle.txid), Removal(middle.txid, "a node", T0, last.txid)]
    record_removals(rows, removals)
    found = redirected(rows, PAID, middle, last)
    assert {txid: [reason.split("…")[0][-8:] for reason in reasons] for txid, reasons in found.items()} == {
        "9": [PAID.txid[:8]],
        "4": [middle.txid[:8]],
    }
