"""What is planted, how often, and that each plant is what its label says."""

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest

from tests.builders import T0
from txwatch.detection.rules import default_detectors
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.lab.simulator.chain import read_transaction
from txwatch.lab.simulator.ordinary import MAX_FEE_SAT
from txwatch.lab.simulator.plants import BUILDERS, PLANTS_PER_HOUR
from txwatch.lab.simulator.traffic import Simulator
from txwatch.wire.transaction import Transaction

COIN = 100_000_000
HOURS = 3


def planted(rates: dict[str, float]) -> list[Transaction]:
    """The plants alone, out of thin traffic."""
    simulator = Simulator(seed=1, start=T0, rate=0.01, plants_per_hour=rates)
    labelled = [tx for tx in simulator.until(T0 + timedelta(hours=1)) if tx.labels]
    assert {label for tx in labelled for label in tx.labels} == {f"plant:{kind}" for kind in rates}
    transactions = [read_transaction(tx.message, tx.at) for tx in labelled]
    return [tx for tx in transactions if tx is not None]


def found(transactions: list[Transaction]) -> list[set[str]]:
    """Which detectors claim each transaction."""
    batch = TransactionBatch.of(transactions)
    network = NetworkContext(as_of=T0, version=1, median_fee_rate_1h=14.8)
    features = transaction_features(batch, Context(network))
    claims: list[set[str]] = [set() for _ in transactions]
    for detector in default_detectors(whale_btc=500):
        for row, reason in detector.find(batch, features):
            claims[row].add(reason.kind)
    return claims


def test_each_kind_is_planted_at_its_rate_and_within_the_first_minutes() -> None:
    traffic = list(Simulator(seed=1, start=T0).until(T0 + timedelta(hours=HOURS)))
    first, counts = {}, Counter[str]()
    for tx in traffic:
        for label in tx.labels:
            first.setdefault(label, tx.at)
            counts[label] += 1
    assert set(first) == {f"plant:{kind}" for kind in BUILDERS}
    assert max(first.values()) <= T0 + timedelta(minutes=2)
    for kind, rate in PLANTS_PER_HOUR.items():
        if kind != "dust_storm":
            assert counts[f"plant:{kind}"] == pytest.approx(rate * HOURS, abs=2), kind
    storms = PLANTS_PER_HOUR["dust_storm"] * HOURS
    assert 20 * (storms - 1) <= counts["plant:dust_storm"] <= 60 * (storms + 1)
    rare = counts.total() - counts["plant:dust_storm"]
    assert rare / len(traffic) < 0.005


def test_nothing_is_planted_when_plants_are_off() -> None:
    simulator = Simulator(seed=1, start=T0, plants=False)
    assert not any(tx.labels for tx in simulator.until(T0 + timedelta(minutes=10)))


def test_a_fee_accident_pays_far_more_than_space_costs() -> None:
    accidents = planted({"fee_accident": 300.0})
    assert len(accidents) >= 295
    assert all(0.05 * COIN <= (tx.fee_sat or 0) <= 20 * COIN for tx in accidents)
    assert all("fee_accident" in claims for claims in found(accidents))


def test_a_whale_moves_500_btc_or_more_to_somebody_else() -> None:
    whales = planted({"whale": 300.0})
    assert all(max(o.value for o in tx.outputs) > 500 * COIN for tx in whales)
    assert all({i.addr for i in tx.inputs}.isdisjoint(o.addr for o in tx.outputs) for tx in whales)
    assert all((tx.fee_sat or 0) <= MAX_FEE_SAT for tx in whales)
    assert found(whales) == [{"whale"}] * len(whales)


def test_a_coinjoin_has_as_many_equal_outputs_as_inputs() -> None:
    for tx in planted({"coinjoin": 300.0}):
        amounts = Counter(o.value for o in tx.outputs)
        assert amounts.most_common(1)[0][1] >= tx.input_count >= 5
        addresses = [c.addr for c in (*tx.inputs, *tx.outputs)]
        assert len(set(addresses)) == len(addresses), "nobody who takes part is linked by an address"


def test_a_dust_storm_is_many_payments_of_the_same_dust_within_a_minute() -> None:
    storm = planted({"dust_storm": 0.5})
    assert 20 <= len(storm) <= 60
    assert storm[-1].seen_at - storm[0].seen_at < timedelta(minutes=1)
    for tx in storm:
        value, count = Counter(o.value for o in tx.outputs).most_common(1)[0]
        assert value < 1_000
        assert count >= 20


def test_a_dormant_coin_moves_as_a_round_amount_out_of_uncompressed_keys() -> None:
    moves = planted({"dormant_round_move": 300.0})
    for tx in moves:
        assert any(o.value >= 100 * COIN and o.value % (50 * COIN) == 0 for o in tx.outputs)
        assert {i.type for i in tx.inputs} == {"p2pkh"}
        assert tx.weight == 4 * tx.size, "old coins have no witness"
        assert tx.fee_sat is not None
        assert tx.fee_sat <= MAX_FEE_SAT
    assert np.median([tx.value_sat for tx in moves]) >= 100 * COIN
