"""Simulated traffic looks like the real traffic of its month.

The figures were measured on 16,049 real transactions; amounts on the three months together. Tolerances allow for the
simulator's own sampling (two hours of each month, some 40,000 transactions) and for what a few knots cannot follow.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders import T0
from txwatch.detection.rules import default_detectors
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import moved_value, transaction_features
from txwatch.lab.simulator.chain import read_transaction
from txwatch.lab.simulator.ordinary import BIG_SAT
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.lab.simulator.traffic import Simulator
from txwatch.settings import Settings

HOURS = 2
SAT = 100_000_000


@dataclass(frozen=True)
class Ordinary:
    """Two hours of one month without plants. Arrays have one entry a transaction, arrivals one a second."""

    batch: TransactionBatch
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    size: NDArray[np.float64]
    arrivals: NDArray[np.int64]

    @property
    def fee_rate(self) -> NDArray[np.float64]:
        rates: NDArray[np.float64] = self.batch.fee_sat / self.batch.vsize
        return rates


@cache
def ordinary(regime: str) -> Ordinary:
    simulator = Simulator(regime, seed=1, start=T0, plants=False)
    found = [read_transaction(tx.message, tx.at) for tx in simulator.until(T0 + timedelta(hours=HOURS))]
    transactions = [tx for tx in found if tx is not None]
    seconds = [int((tx.seen_at - T0).total_seconds()) for tx in transactions]
    return Ordinary(
        TransactionBatch.of(transactions),
        np.array([tx.input_count for tx in transactions], np.float64),
        np.array([tx.output_count for tx in transactions], np.float64),
        np.array([tx.size for tx in transactions], np.float64),
        np.bincount(seconds, minlength=HOURS * 3600),
    )


@dataclass(frozen=True)
class Month:
    """The measured figures of one month."""

    fee_rate: float
    fee_sat: float
    inputs: tuple[float, ...]
    outputs: tuple[float, ...]
    size: tuple[float, ...]
    one_in_one_out: float
    one_in_two_out: float


MEASURED = {
    "2024-03": Month(14.8, 2_509, (1, 5, 98, 500), (1, 5, 23, 102), (305, 1_260, 15_200), 0.44, 0.29),
    "2024-10": Month(3.8, 516, (1, 1, 6, 100), (2, 3, 5, 17), (210, 371, 958), 0.05, 0.86),
    "2025-07": Month(3.0, 452, (1, 4, 19, 288), (2, 5, 19, 155), (225, 973, 5_400), 0.30, 0.37),
}
COUNT_QUANTILES = ((0.5, 0.0), (0.95, 0.0), (0.99, 0.2), (0.999, 0.3))
"""Quantile and relative tolerance; half the counts are 1 or 2, so that the lower ones are exact."""
SIZE_QUANTILES = ((0.5, 0.07), (0.95, 0.12), (0.99, 0.2))


def test_every_month_is_measured() -> None:
    assert set(MEASURED) == set(REGIMES)


@pytest.mark.parametrize("regime", MEASURED)
def test_fees(regime: str) -> None:
    traffic, month = ordinary(regime), MEASURED[regime]
    assert np.median(traffic.fee_rate) == pytest.approx(month.fee_rate, rel=0.03)
    assert np.median(traffic.batch.fee_sat) == pytest.approx(month.fee_sat, rel=0.12)


@pytest.mark.parametrize("regime", MEASURED)
def test_shapes(regime: str) -> None:
    traffic, month = ordinary(regime), MEASURED[regime]
    for i, (share, tolerance) in enumerate(COUNT_QUANTILES):
        assert np.quantile(traffic.inputs, share) == pytest.approx(month.inputs[i], rel=tolerance), f"inputs, {share}"
        assert np.quantile(traffic.outputs, share) == pytest.approx(month.outputs[i], rel=tolerance), (
            f"outputs, {share}"
        )
    for i, (share, tolerance) in enumerate(SIZE_QUANTILES):
        assert np.quantile(traffic.size, share) == pytest.approx(month.size[i], rel=tolerance), f"size, {share}"
    one_in = traffic.inputs == 1
    assert np.mean(one_in & (traffic.outputs == 1)) == pytest.approx(month.one_in_one_out, abs=0.015)
    assert np.mean(one_in & (traffic.outputs == 2)) == pytest.approx(month.one_in_two_out, abs=0.015)


def test_amounts() -> None:
    value = np.concatenate([ordinary(regime).batch.value_sat for regime in MEASURED]) / SAT
    # Eight decades: a quantile is right to within a factor.
    for share, btc, factor in (
        (0.5, 0.0007, 1.6),
        (0.9, 0.13, 1.2),
        (0.95, 0.89, 1.2),
        (0.99, 10.6, 1.2),
        (0.999, 166, 1.5),
    ):
        assert btc / factor < np.quantile(value, share) < btc * factor, f"quantile {share}"
    assert value.max() < 2 * 1_975
    for btc, percent, tolerance in (
        (1, 4.6, 0.1),
        (10, 1.07, 0.1),
        (50, 0.43, 0.15),
        (100, 0.20, 0.2),
        (500, 0.037, 0.4),
    ):
        assert 100 * np.mean(value >= btc) == pytest.approx(percent, rel=tolerance), f"share at or above {btc} BTC"


@pytest.mark.parametrize("regime", MEASURED)
def test_arrivals_come_in_bursts(regime: str) -> None:
    arrivals = ordinary(regime).arrivals
    assert 3 < arrivals.mean() < 7
    assert 3.4 < arrivals.var() / arrivals.mean() < 5.2
    assert arrivals.max() >= 25


def test_a_fee_above_half_of_the_input_is_ordinary_in_march_2024() -> None:
    batch = ordinary("2024-03").batch
    assert np.mean(batch.fee_sat > batch.value_sat) == pytest.approx(0.34, abs=0.03)


@pytest.mark.parametrize("regime", MEASURED)
def test_ordinary_traffic_holds_no_fee_accident_and_no_whale(regime: str) -> None:
    batch = ordinary(regime).batch
    assert moved_value(batch).likely.max() < BIG_SAT
    for median_fee_rate in (None, MEASURED[regime].fee_rate):
        network = NetworkContext(as_of=T0, version=1, median_fee_rate_1h=median_fee_rate)
        features = transaction_features(batch, Context(network))
        for detector in default_detectors(whale_btc=Settings.model_fields["whale_btc"].default):
            found = {reason.kind for _, reason in detector.find(batch, features)}
            assert not found & {"fee_accident", "whale", "dormant_round_move"}
