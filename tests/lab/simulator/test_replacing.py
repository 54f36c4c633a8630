"""Some whales are sent again for a higher fee, and only one of the two is mined."""

from datetime import timedelta

import pytest

from tests.builders import T0, numbered_utx, pay
from txwatch.lab.simulator.chain import Chain, read_transaction
from txwatch.lab.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.wire.transaction import Transaction

HOUR = timedelta(hours=1)


def simulated(share: float) -> list[SimulatedTransaction]:
    rates = {"whale": 100.0, "coinjoin": 10.0}
    simulator = Simulator(seed=1, start=T0, rate=0.05, plants_per_hour=rates, replaced_share=share)
    return list(simulator.until(T0 + HOUR))


def read(tx: SimulatedTransaction) -> Transaction:
    transaction = read_transaction(tx.message, tx.at)
    assert transaction is not None
    return transaction


def test_a_replacement_spends_the_same_coins_for_a_higher_fee_and_pays_the_same_receiver() -> None:
    sent = simulated(0.5)
    by_txid = {tx.txid: tx for tx in sent}
    pairs = [(by_txid[tx.replaces], tx) for tx in sent if tx.replaces is not None]
    assert 30 <= len(pairs) <= 70
    for first, second in pairs:
        before, after = read(first), read(second)
        assert before.inputs == after.inputs
        assert after.rbf
        assert before.outputs[:-1] == after.outputs[:-1]
        assert (after.fee_sat or 0) >= (before.fee_sat or 0) + before.vsize
        assert second.fee_sat == after.fee_sat
        assert first.labels == second.labels == ("plant:whale",)
        assert timedelta(seconds=20) <= second.at - first.at <= timedelta(seconds=240)
    assert [tx.at for tx in sent] == sorted(tx.at for tx in sent)


def test_all_else_is_as_without_replacements() -> None:
    with_them = [tx for tx in simulated(0.5) if tx.replaces is None]
    assert [(tx.at, tx.labels, tx.fee_sat) for tx in with_them] == [
        (tx.at, tx.labels, tx.fee_sat) for tx in simulated(0.0)
    ]
    assert all(tx.replaces is None for tx in simulated(0.0))


@pytest.mark.parametrize(("last_digits", "mined"), [("ff", "second"), ("01", "first")])
def test_one_of_two_that_conflict_is_mined(last_digits: str, mined: str) -> None:
    chain = Chain(seed=1, start=T0)
    first, second = numbered_utx(1), numbered_utx(int("2" + last_digits, 16), out=[pay(9_000)])
    names = {"first": f"{1:064x}", "second": f"{int('2' + last_digits, 16):064x}"}
    chain.served(first, T0)
    chain.served(second, T0, names["first"])
    assert chain.mine(T0).txids == (names[mined],)
    assert chain.waiting == 0


def test_what_is_mined_is_not_replaced_and_what_was_replaced_needs_no_room() -> None:
    chain = Chain(seed=1, start=T0, kept_waiting=1)
    chain.served(numbered_utx(1), T0)
    chain.mine(T0)
    chain.served(numbered_utx(0xFF), T0, f"{1:064x}")
    assert chain.waiting == 0
    chain.served(numbered_utx(2, out=[pay(1_000)]), T0)
    chain.served(numbered_utx(0x3FF), T0, f"{2:064x}")
    chain.served(numbered_utx(4, out=[pay(1_000)]), T0)
    assert chain.mine(T0).txids == (f"{4:064x}",), "the fee is higher, and there is room for one"
