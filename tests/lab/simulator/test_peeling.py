"""Some whales begin a peel chain: each hop spends the rest of the one before, soon after it."""

from datetime import timedelta

from tests.builders import T0
from txwatch.lab.simulator.chain import Chain, read_transaction
from txwatch.lab.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.wire.transaction import Transaction

LABEL = "plant:peel_chain"


def simulated(share: float, replaced_share: float = 0.0) -> list[SimulatedTransaction]:
    rates = {"whale": 60.0, "coinjoin": 10.0}
    simulator = Simulator(
        seed=1, start=T0, rate=0.05, plants_per_hour=rates, replaced_share=replaced_share, peeled_share=share
    )
    return list(simulator.until(T0 + timedelta(hours=1)))


def read(tx: SimulatedTransaction) -> Transaction:
    transaction = read_transaction(tx.message, tx.at)
    assert transaction is not None
    return transaction


def test_each_hop_spends_the_rest_of_the_one_before_and_pays_a_part_of_it() -> None:
    sent = simulated(0.5)
    by_txid = {tx.txid: tx for tx in sent}
    hops = [tx for tx in sent if tx.labels == (LABEL,)]
    begun = 0
    for hop in hops:
        [maker] = hop.makers
        before, after = by_txid[maker], read(hop)
        begun += before.labels == ("plant:whale",)
        [spent] = after.inputs
        assert spent.value == before.draft.outputs[spent.n].value == max(o.value for o in before.draft.outputs)
        assert 0.01 * spent.value <= after.outputs[0].value <= 0.08 * spent.value
        assert after.outputs[1].type == spent.type
        assert (after.fee_sat or 0) >= after.vsize
        assert timedelta(seconds=10) <= hop.at - before.at <= timedelta(seconds=40)
    assert 15 <= begun <= 45
    assert 3 * begun <= len(hops) <= 8 * begun
    assert [tx.at for tx in sent] == sorted(tx.at for tx in sent)


def test_the_first_whale_is_peeled_in_any_case_and_one_that_is_peeled_is_not_replaced() -> None:
    sent = simulated(0.05, replaced_share=0.9)
    whales = [tx.txid for tx in sent if tx.labels == ("plant:whale",) and tx.replaces is None]
    peeled = {tx.makers[0] for tx in sent if tx.labels == (LABEL,)}
    assert whales[0] in peeled
    assert peeled.isdisjoint(tx.replaces for tx in sent)


def test_all_else_is_as_without_peel_chains() -> None:
    others = [tx for tx in simulated(0.5) if tx.labels != (LABEL,)]
    assert [(tx.at, tx.labels, tx.fee_sat) for tx in others] == [
        (tx.at, tx.labels, tx.fee_sat) for tx in simulated(0.0)
    ]


def test_a_chain_is_mined_in_its_order() -> None:
    chain, sent = Chain(seed=1, start=T0), [tx for tx in simulated(0.5) if tx.labels == (LABEL,)][:12]
    for tx in sent:
        chain.served(tx.message, tx.at, makers=tx.makers)
    mined = chain.mine(sent[-1].at).txids
    assert set(mined) == {tx.txid for tx in sent}
