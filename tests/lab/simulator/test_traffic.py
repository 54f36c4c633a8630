"""The simulator's stream: reproducible, valid, and linked by spends of earlier outputs."""

import json
from datetime import datetime, timedelta

import numpy as np
import pytest

from tests.builders import T0
from txwatch.lab.simulator.addresses import make_address
from txwatch.lab.simulator.chain import read_transaction
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.lab.simulator.spending import Coin
from txwatch.lab.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.lab.simulator.wallets import COINS_A_BUCKET, CoinPool, Draws

MINUTE = timedelta(minutes=1)


def simulated(
    minutes: int = 10, regime: str = "2024-03", seed: int = 1, **options: object
) -> list[SimulatedTransaction]:
    return list(Simulator(regime, seed=seed, start=T0, **options).until(T0 + minutes * MINUTE))


def test_the_same_seed_gives_the_same_messages_however_they_are_asked_for() -> None:
    simulator = Simulator(seed=1, start=T0)
    in_steps = [tx for minute in range(1, 11) for tx in simulator.until(T0 + minute * MINUTE)]
    assert in_steps == simulated()
    assert [tx.message for tx in in_steps] == [tx.message for tx in simulated()]
    assert list(simulator.until(T0 + 10 * MINUTE)) == [], "nothing is given twice"


def test_another_seed_or_start_gives_other_transactions() -> None:
    txids = {tx.txid for tx in simulated()}
    assert txids.isdisjoint(tx.txid for tx in simulated(seed=2))
    later = Simulator(seed=1, start=T0 + MINUTE).until(T0 + 11 * MINUTE)
    assert txids.isdisjoint(tx.txid for tx in later)


@pytest.mark.parametrize("regime", REGIMES)
def test_every_message_decodes_to_the_transaction_that_the_simulator_gives(regime: str) -> None:
    traffic = simulated(60, regime, replaced_share=0.5)
    assert any(tx.replaces for tx in traffic)
    assert [tx.at for tx in traffic] == sorted(tx.at for tx in traffic)
    for tx in traffic:
        decoded = read_transaction(tx.message, tx.at)
        assert decoded is not None, tx.message
        assert decoded == tx.transaction("feed")
        assert (decoded.txid, decoded.fee_sat, decoded.weight) == (tx.txid, tx.fee_sat, tx.weight)
        assert decoded.feed_time == tx.at.replace(microsecond=0)
        assert tx.fee_sat >= decoded.vsize, "nodes relay nothing below 1 sat/vB"


def test_outputs_are_spent_later_and_never_twice() -> None:
    made: dict[tuple[str, int, int], int] = {}
    chained = 0
    for tx in simulated(30, plants=False):
        body = json.loads(tx.message)["x"]
        for spent in (i["prev_out"] for i in body["inputs"]):
            coin = (spent["addr"], spent["value"], spent["n"])
            if made.get(coin, 0) > 0:
                made[coin] -= 1
                chained += 1
        for paid in body["out"]:
            assert not paid["spent"]
            coin = (paid.get("addr"), paid["value"], paid["n"])
            made[coin] = made.get(coin, 0) + 1
    assert chained > 500


def test_the_rate_is_what_was_asked_for() -> None:
    assert len(simulated(20, rate=20.0, plants=False)) == pytest.approx(20 * 20 * 60, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regime": "2009-01"}, "no regime '2009-01'; there are 2024-03, 2024-10, 2025-07"),
        ({"rate": 0.0}, "must be above 0"),
        ({"start": datetime(2024, 1, 1)}, "no time zone"),
        ({"plants_per_hour": {"meteor": 1.0}}, "no plant named meteor"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Simulator(**({"seed": 1, "start": T0} | options))


def test_the_pool_of_coins_keeps_only_so_many() -> None:
    pool = CoinPool(Draws(np.random.default_rng(1)))
    owner = make_address("p2wpkh", bytes(20))
    pool.add([Coin(owner, 1_000) for _ in range(10 * COINS_A_BUCKET)])
    kept = 0
    while pool.take("p2wpkh", 1_000) is not None:
        kept += 1
    assert 0 < kept < COINS_A_BUCKET
