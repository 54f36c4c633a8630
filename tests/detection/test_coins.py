"""Old coins are found by their real age where a source tells it, and by a guess where none does."""

import numpy as np
import pytest

from tests.builders import T0, coin, spending
from txwatch.detection.coins import DormantCoins, DormantRoundMove, year_at
from txwatch.detection.detector import Detector
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import UNCONFIRMED, SpentOutput, Transaction

TIP = 834_580
"""March 2024."""


def old(btc: float, height: int | None, *, mined: bool = False, n: int = 0) -> SpentOutput:
    return coin("ab" * 32, n, int(btc * SAT_PER_BTC), height=height, coinbase=mined, type="p2pkh")


def moved(*coins: SpentOutput, tip: int | None = TIP) -> Transaction:
    value = sum(spent.value or 0 for spent in coins)
    return spending("cd" * 32, *coins, pays=[("bc1qto", value - 1_000)], tip_height=tip)


def said(detector: Detector, *transactions: Transaction) -> dict[int, str]:
    batch = TransactionBatch.of(transactions)
    features = transaction_features(batch, Context(NetworkContext(T0, version=0)))
    found = {row: reason.text for row, reason in detector.find(batch, features)}
    assert set(found) <= set(np.flatnonzero(detector.likely(features))) or isinstance(detector, DormantRoundMove)
    return found


def test_the_years_of_heights() -> None:
    heights = [0, 100_409, 100_410, 210_000, 840_000, 877_259, 877_259 + 52_560, 877_259 + 2 * 52_560 - 1]
    assert np.floor(year_at(np.array(heights, float))).tolist() == [2009, 2010, 2011, 2012, 2024, 2025, 2026, 2026]
    assert year_at(np.array([210_000.0]))[0] == pytest.approx(2012.9, abs=0.03), "the first halving: 28 November 2012"
    assert year_at(np.array([840_000.0]))[0] == pytest.approx(2024.3, abs=0.01), "the fourth one: 20 April 2024"


CASES = {
    "of one year": ([old(1_200, 105_000)], "1,200.00 BTC in coins of 2011, untouched for 13.1 years"),
    "mined": ([old(50, 2_000, mined=True)], "50.00 BTC in coins mined in 2009, untouched for 15.1 years"),
    "of several years, some of them mined": (
        [old(50, 90_000, mined=True), old(30.5, 300_000, n=1), old(9_000, 800_000, n=2)],
        "80.50 BTC in coins of 2010 to 2014 (50.00 BTC of them mined), untouched for 9.8 to 13.4 years",
    ),
    "beside an unconfirmed one": (
        [old(60, 300_000), old(1, UNCONFIRMED, n=1)],
        "60.00 BTC in coins of 2014, untouched for 9.8 years",
    ),
}


@pytest.mark.parametrize(("coins", "text"), CASES.values(), ids=CASES)
def test_the_reason_says_how_much_was_made_when(coins: list[SpentOutput], text: str) -> None:
    assert said(DormantCoins(), moved(old(1, 3)), moved(*coins)) == {1: text}


@pytest.mark.parametrize(
    "transaction",
    [
        moved(old(49.9, 105_000)),
        moved(old(5_000, TIP - 262_799)),
        moved(old(5_000, None)),
        moved(old(5_000, 105_000), tip=None),
        moved(old(5_000, UNCONFIRMED)),
    ],
    ids=["less", "younger", "age unknown", "tip unknown", "unconfirmed"],
)
def test_what_is_less_younger_or_unknown_stays_silent(transaction: Transaction) -> None:
    assert said(DormantCoins(), transaction) == {}


def test_thresholds_are_fields() -> None:
    assert said(DormantCoins(min_blocks=100, min_sat=1_000), moved(old(0.001, TIP - 100))) == {
        0: "0.001 BTC in coins of 2024, untouched for 0.0 years"
    }
    assert said(DormantCoins(), moved(old(50, TIP - 262_800))), "both bounds are within"


def test_the_guess_is_made_where_no_age_is_known() -> None:
    def round_move(*, height: int | None, tip: int | None) -> Transaction:
        spent = old(1_000.1, height)
        return spending("cd" * 32, spent, pays=[("bc1qto", 1_000 * SAT_PER_BTC)], tip_height=tip)

    assert said(DormantRoundMove(), round_move(height=None, tip=None))
    assert said(DormantRoundMove(), round_move(height=105_000, tip=None))
    assert not said(DormantRoundMove(), round_move(height=TIP - 1_000, tip=TIP))
    assert not said(DormantRoundMove(), round_move(height=105_000, tip=TIP)), "DormantCoins tells it exactly"
