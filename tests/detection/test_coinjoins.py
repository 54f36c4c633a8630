"""Rounds by protocol and of few owners, Tx0 and Stonewalls, and for each rule twenty payments that resemble them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.detection.test_detectors import found, pay
from txwatch.clock import EPOCH
from txwatch.detection.cases import Coin
from txwatch.detection.coinjoin_protocols import DENOMINATIONS, MEASURED, Measured
from txwatch.detection.coinjoins import Coinjoin, Stonewall, WhirlpoolTx0
from txwatch.detection.kinds import alerting
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import default_detectors, find_all
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.replay import Labelled, read_labelled
from txwatch.wire.transaction import Transaction

Sides = tuple[list[Coin], list[Coin]]
DETECTORS = (Coinjoin(), WhirlpoolTx0(), Stonewall())
KINDS = {kind for one in DETECTORS for kind in one.kinds}


def coins(*amounts: int, of: str = "p2wpkh") -> list[Coin]:
    return [Coin(of, sat) for sat in amounts]


def said(transaction: Transaction) -> dict[str, str]:
    """What the detectors of coinjoins say, by kind."""
    return {
        reason.kind: reason.text
        for one in (Coinjoin(), WhirlpoolTx0(), Stonewall())
        for reason in found(one, transaction)
    }


def whirlpool(again: int = 3, new: int = 2, pool: int = 5_000_000, above: int = 4_000) -> Sides:
    return coins(*[pool] * again, *[pool + above] * new), coins(*[pool] * (again + new))


def tx0(*, cut: int = 3, pool: int = 1_000_000, fee: int = 50_000, above: int = 3_937) -> Sides:
    paid = [Coin("op_return", 0), *coins(fee, 231_000, *[pool + above] * cut)]
    return coins(sum(coin.sat for coin in paid) + 900), paid


def wasabi_2(*, inputs: int = 40, amounts: int = 12, of_each: int = 3, rest: Sequence[int] = (77_123,)) -> Sides:
    standard = sorted(DENOMINATIONS)[20 : 20 + amounts]
    paid = coins(*[amount for amount in standard for _ in range(of_each)], *rest)
    share = sum(coin.sat for coin in paid) // inputs + 1_000
    return coins(*[share + 17 * n for n in range(inputs)]), paid


def wasabi_1(*, owners: int = 40, base: int = 10_998_000, changed: int = 25, of: str = "p2wpkh") -> Sides:
    changes = [310_000 + 91_237 * n for n in range(changed)]
    spent = [base + (changes[n] if n < changed else 0) + 5_000 for n in range(owners)]
    return coins(*spent, of=of), coins(*[base] * owners, *changes, of=of)


def joinmarket(*, owners: int = 7, amount: int = 45_281_835, least: int = 350_000, of: str = "p2wpkh") -> Sides:
    changes = [least + 7_340_917 * n for n in range(owners)]
    spent = [amount + kept + (9_000 if n == 0 else -400) for n, kept in enumerate(changes)]
    return coins(*spent, of=of), coins(*[amount] * owners, *changes, of=of)


def few(*, owners: int = 3, amount: int = 30_000_000, unfair: int = 0) -> Sides:
    """The first owner has two coins; `unfair` satoshi of its change are another one's."""
    changes = [4_100_307 * (n + 1) for n in range(owners)]
    spent = [12_000_000, amount + changes[0] - 12_000_000 + 2_000, *(amount + kept + 1_000 for kept in changes[1:])]
    changes[0] += unfair
    changes[1] -= unfair
    return coins(*spent), coins(*[amount] * owners, *changes)


ROUNDS = {
    "whirlpool": (whirlpool(), "Whirlpool round of the 0.05 BTC pool, 3 coins mixed again, 2 new (99 % sure)"),
    "whirlpool_tx0": (
        tx0(),
        "Whirlpool Tx0: 3 coins of 0.01003937 BTC for the 0.01 BTC pool, fee of 50,000 sat to it (99 % sure)",
    ),
    "wasabi_2": (wasabi_2(), "Wasabi 2 round, 36 of 37 outputs in its standard amounts (92 % sure)"),
    "wasabi_1": (wasabi_1(), "Wasabi 1 round of 40 owners at 0.10998 BTC (99 % sure)"),
    "joinmarket": (joinmarket(), "JoinMarket round of 7 owners, 7 of them with change (85 % sure)"),
}


@pytest.mark.parametrize("kind", ROUNDS)
def test_a_round_is_told_by_its_protocol_and_how_sure_that_is(kind: str) -> None:
    sides, text = ROUNDS[kind]
    reasons = said(pay(*sides))
    assert reasons.pop(kind) == text
    assert set(reasons) == (set() if kind == "whirlpool_tx0" else {"coinjoin"})


@pytest.mark.parametrize("owners", [5, 8, 60])
def test_a_coinjoin_has_equal_outputs_to_as_many_owners(owners: int) -> None:
    [reason] = found(Coinjoin(), pay(coins(*[5_010_000] * owners), coins(*[5_000_000] * owners, of="p2tr")))
    assert reason.text == f"0.05 BTC to each of {owners} addresses, from {owners} addresses: likely a coinjoin"


@pytest.mark.parametrize("owners", [3, 4])
def test_few_owners_are_told_by_coins_that_balance_apart(owners: int) -> None:
    [reason] = found(Coinjoin(), pay(*few(owners=owners)))
    text = f"0.30 BTC to each of {owners} owners, whose coins balance apart: possibly a coinjoin (26 % sure)"
    assert (reason.kind, reason.text.replace("0.3 BTC", "0.30 BTC")) == ("coinjoin", text)


def test_a_whirlpool_round_may_pay_to_a_wallet_of_another_type() -> None:
    spent, paid = whirlpool(again=4, new=4, pool=100_000)
    assert "whirlpool" in said(pay(spent, [*paid[:-1], Coin("p2wsh", 100_000)]))


def test_only_the_taker_of_a_joinmarket_round_may_be_paid_to_another_type_and_may_keep_nothing() -> None:
    spent, paid = joinmarket()
    taker = Coin("p2tr", paid[0].sat)
    assert "joinmarket" in said(pay(spent, [taker, *paid[1:]]))
    assert "joinmarket" not in said(pay(spent, [taker, taker, *paid[2:]]))
    assert "joinmarket" in said(pay(spent, paid[:-1])), "the taker's change went to the others and to miners"


def test_what_is_sure_is_the_lower_bound_of_what_was_measured() -> None:
    assert Measured(50, 50).confidence == pytest.approx(0.9487, abs=1e-4)
    assert Measured(5, 10).confidence == pytest.approx(0.2693, abs=1e-4)
    assert all(one.right <= one.fit for one in MEASURED.values())


def changed(sides: Sides, *, spent: Sequence[Coin] = (), paid: Sequence[Coin] = ()) -> Sides:
    """With these in place of the first coins of a side."""
    return [*spent, *sides[0][len(spent) :]], [*paid, *sides[1][len(paid) :]]


def more(sides: Sides, *, spent: Sequence[Coin] = (), paid: Sequence[Coin] = ()) -> Sides:
    return [*sides[0], *spent], [*sides[1], *paid]


def shared(side: Sequence[Coin], owner: str = "one") -> list[Coin]:
    return [replace(coin, owner=owner) for coin in side]


def payouts(seed: int, n: int) -> list[Sides]:
    """Services that pay many at once, some of the same amount, out of coins of several addresses."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        amounts = draw.choice([1_000_000, 5_000_000, 10_000_000, 2_500_000], draw.integers(6, 40)).tolist()
        amounts += draw.integers(20_000, 900_000_000, draw.integers(6, 40)).tolist()
        spent = int(draw.integers(2, 5))
        made.append((coins(*[sum(amounts) // spent + 5_000] * spent), coins(*amounts)))
    return made


def unbalanced(sides: Sides) -> Sides:
    """The same coins, with a tenth of the one change in the other."""
    *equal, one, other = (coin.sat for coin in sides[1])
    return sides[0], coins(*equal, one - one // 10, other + one // 10)


def stonewalls(seed: int, n: int) -> list[Sides]:
    """One wallet pays an amount, and the same to itself, each out of a set of its coins and with change."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        amount, *kept, cut = draw.integers(300_000, 80_000_000, 4).tolist()
        one, other = (amount + change + 900 for change in kept)
        made.append(
            (coins(cut * one // 80_000_000, one - cut * one // 80_000_000, other), coins(amount, amount, *kept))
        )
    return made


HARD_NEGATIVES: dict[str, list[Sides]] = {
    "whirlpool": [
        whirlpool(again=0, new=5),
        whirlpool(again=5, new=0),
        whirlpool(again=2, new=2),
        whirlpool(again=8, new=3),
        whirlpool(pool=2_000_000),
        whirlpool(pool=5_000_001),
        whirlpool(above=99),
        whirlpool(above=110_001),
        changed(whirlpool(), spent=coins(4_999_999)),
        changed(whirlpool(), spent=coins(5_000_000, of="p2tr")),
        changed(whirlpool(), spent=coins(5_000_000, of="p2sh")),
        changed(whirlpool(), spent=shared(coins(5_000_000, 5_000_000))),
        changed(whirlpool(), paid=shared(coins(5_000_000, 5_000_000))),
        changed(whirlpool(), paid=coins(4_990_000)),
        more(whirlpool(), paid=[Coin("op_return", 0)]),
        more(whirlpool(), paid=coins(40_000), spent=coins(50_000)),
        more(whirlpool(), spent=coins(50_000)),
        (coins(25_040_000), coins(*[5_000_000] * 5)),
        (coins(*[12_510_000] * 2), coins(*[5_000_000] * 5)),
        (coins(*[5_000_000] * 5, 9_000), coins(*[5_000_000] * 5)),
    ],
    "whirlpool_tx0": [
        (tx0()[0], tx0()[1][1:]),
        more(tx0(), paid=[Coin("op_return", 0)]),
        tx0(fee=49_999),
        tx0(fee=5_000),
        tx0(fee=175_000),
        tx0(pool=2_000_000),
        tx0(pool=1_000_000, above=99),
        tx0(pool=1_000_000, above=110_001),
        tx0(pool=100_000, fee=50_000),
        more(tx0(), paid=coins(44_000, 61_000)),
        more(tx0(), paid=coins(50_000)),
        (coins(1_200_000), [Coin("op_return", 0), *coins(50_000, 999_999)]),
        (coins(1_200_000), [Coin("op_return", 0), *coins(546, 1_003_937)]),
        (coins(1_200_000), [Coin("op_return", 0), *coins(1_003_937)]),
        (coins(60_000), [Coin("op_return", 0), *coins(50_000)]),
        (coins(300_000), [Coin("op_return", 0), *coins(546, 103_937, 190_000)]),
        (coins(300_000), [Coin("op_return", 0), *coins(5_001, 103_937, 180_000)]),
        (coins(6_000_000), [Coin("op_return", 0), *coins(174_000, 5_003_937, 800_000)]),
        (coins(6_000_000), [Coin("op_return", 0), *coins(5_000, 5_003_937, 800_000)]),
        (coins(9_000_000), coins(50_000, 1_003_937, 1_003_937, 1_003_937)),
    ],
    "wasabi_2": [
        wasabi_2(inputs=19),
        wasabi_2(rest=[91_001 + n for n in range(10)]),
        wasabi_2(amounts=2, of_each=18),
        wasabi_2(amounts=30, of_each=1),
        (coins(*[900_000] * 40, of="p2pkh"), wasabi_2()[1]),
        changed(wasabi_2(), spent=coins(900_000, of="p2sh")),
        changed(wasabi_2(), paid=coins(100_000, of="p2pkh")),
        (shared(wasabi_2()[0]), wasabi_2()[1]),
        changed(wasabi_2(), spent=shared(wasabi_2()[0][:6])),
        changed(wasabi_2(), paid=shared(wasabi_2()[1][:2])),
        more(wasabi_2(), paid=[Coin("op_return", 0)]),
        (coins(*[700_000 + n for n in range(60)]), coins(*[1_000_000] * 40, 77_001)),
        (coins(*[700_000 + n for n in range(60)]), coins(*[1_000_000] * 20, *[2_000_000] * 10, 77_001)),
        *payouts(1, 7),
    ],
    "wasabi_1": [
        wasabi_1(owners=9, changed=4),
        wasabi_1(base=7_900_000),
        wasabi_1(base=12_100_000),
        wasabi_1(base=3_900_000),
        wasabi_1(base=20_000_000),
        wasabi_1(changed=0),
        wasabi_1(of="p2tr"),
        wasabi_1(of="p2sh"),
        changed(wasabi_1(), spent=coins(11_000_000, of="p2tr")),
        changed(wasabi_1(), paid=coins(10_998_000, of="p2tr")),
        changed(wasabi_1(), paid=shared(wasabi_1()[1][:2])),
        (shared(wasabi_1()[0]), wasabi_1()[1]),
        more(wasabi_1(), paid=[Coin("op_return", 0)]),
        more(wasabi_1(), paid=coins(*[21_000 + n for n in range(60)]), spent=coins(3_000_000)),
        (coins(*[60_000_000] * 8), coins(*[10_000_000] * 45, 22_000_000)),
        *payouts(2, 5),
    ],
    "joinmarket": [
        joinmarket(owners=4),
        joinmarket(owners=26),
        joinmarket(amount=99_999),
        joinmarket(least=27_299),
        changed(joinmarket(), spent=coins(45_640_835, of="p2tr")),
        (joinmarket()[0], joinmarket()[1][:-2]),
        more(joinmarket(), paid=coins(61_000)),
        more(joinmarket(), paid=[Coin("op_return", 0)]),
        changed(joinmarket(), paid=shared(joinmarket()[1][:2])),
        changed(joinmarket(), spent=shared(joinmarket()[0][:3])),
        (joinmarket()[0], [*joinmarket()[1][:-2], *joinmarket()[1][-3:-2] * 2]),
        (coins(*[sum(coin.sat for coin in joinmarket()[0]) // 3 + 1] * 3), joinmarket()[1]),
        *payouts(3, 8),
    ],
    "coinjoin": [
        few(unfair=900_000),
        few(owners=4, unfair=-900_000),
        (few()[0], few()[1][:-2]),
        more(few(), paid=coins(61_000), spent=coins(70_000)),
        more(few(), spent=coins(1_200_000, 1_300_000, 1_400_000)),
        changed(few(), spent=shared(few()[0][:2])),
        changed(few(), paid=shared(few()[1][:2])),
        (few()[0], [Coin("op_return", 0), *few()[1]]),
        changed(few(), spent=coins(12_000_000, of="p2tr")),
        few(amount=99_999),
        (coins(99_000_000, 20_000_000), few()[1]),
        *stonewalls(4, 9),
    ],
    "stonewall": [
        *(unbalanced(sides) for sides in stonewalls(6, 8)),
        (coins(50_000_000), coins(10_000_000, 10_000_000, 12_345_000, 17_650_000)),
        (coins(25_000_000, 25_010_000), coins(10_000_000, 10_000_000, 15_000_000, 15_000_000)),
        (coins(25_000_000, 25_010_000), coins(10_000_000, 10_000_000, 30_000_000)),
        (coins(25_000_000, 25_010_000), coins(10_000_000, 10_000_000, 10_000_000, 20_000_000)),
        (coins(25_000_000, 25_010_000), coins(10_000_000, 11_000_000, 12_000_000, 17_000_000)),
        (coins(5_000, 5_000, 70_000), coins(4_999, 4_999, 30_000, 39_000)),
        (coins(546, 546, 700_000), coins(546, 546, 200_000, 499_000)),
        *(more(sides, paid=[Coin("op_return", 0)]) for sides in stonewalls(7, 3)),
        *(changed(sides, paid=shared(sides[1][:2])) for sides in stonewalls(8, 2)),
    ],
}
"""For each rule: what lacks one mark of a round, services' payouts, and Stonewalls."""


@pytest.mark.parametrize("kind", HARD_NEGATIVES)
def test_twenty_hard_negatives_of_each_rule_get_no_tag_and_no_alert(kind: str) -> None:
    transactions = [pay(*sides) for sides in HARD_NEGATIVES[kind]]
    batch = TransactionBatch.of(transactions)
    context = Context(NetworkContext(transactions[0].seen_at, version=0, median_fee_rate_1h=15.0))
    reasons = find_all(default_detectors(whale_btc=500), batch, transaction_features(batch, context))
    assert len(transactions) == 20
    assert [row for row, found in reasons.items() if kind in {reason.kind for reason in found}] == []
    assert [row for row, found in reasons.items() if alerting(found) and not accident(found)] == []


def accident(reasons: Sequence[Reason]) -> bool:
    """A coin more than a round has makes the fee of some an accident, which is told."""
    return any(reason.kind == "fee_accident" for reason in reasons)


def test_a_stonewall_is_told_as_one_and_not_as_a_coinjoin_of_two() -> None:
    assert [set(said(pay(*sides))) for sides in stonewalls(5, 20)] == [{"stonewall"}] * 20


def test_a_tx0_of_many_coins_of_many_addresses_is_no_coinjoin() -> None:
    _, paid = tx0(cut=9)
    spent = coins(*[sum(coin.sat for coin in paid) // 12 + 100] * 12)
    assert set(said(pay(spent, paid))) == {"whirlpool_tx0"}


def counted(labelled: Labelled) -> Counter[tuple[str | None, str]]:
    """How often the detectors said what, by label."""
    batch = TransactionBatch.of(labelled.transactions)
    features = transaction_features(batch, Context(NetworkContext(EPOCH, version=0)))
    reasons = find_all(DETECTORS, batch, features)
    return Counter((labelled.labels[row], reason.kind) for row, found in reasons.items() for reason in found)


def test_real_rounds_and_tx0s_are_told_and_a_real_day_holds_few_others(shared_data: Path) -> None:
    rounds, cuts = "coinjoin:whirlpool", "premix:whirlpool-tx0"
    of_a_week = counted(read_labelled([shared_data / "coinjoin-whirlpool-2024-03.jsonl.gz"]))
    assert (of_a_week[rounds, "whirlpool"], of_a_week[rounds, "whirlpool_tx0"]) == (706, 0)
    # The label of 43 rounds is that of a Tx0.
    assert (of_a_week[cuts, "whirlpool_tx0"], of_a_week[cuts, "whirlpool"]) == (362, 43)
    of_a_day = counted(read_labelled([shared_data / "mempool-2024-03.jsonl.gz"]))
    assert of_a_day[rounds, "whirlpool"] == 7
    # Of 8,118 without a label: one Tx0, two rounds of Wasabi 2, and another coinjoin, none of which is wrong.
    unlabelled = {kind: n for (label, kind), n in of_a_day.items() if label is None}
    assert unlabelled == {"coinjoin": 3, "wasabi_2": 2, "whirlpool_tx0": 1}


@pytest.mark.parametrize(
    ("spent", "paid"),
    [
        (shared(coins(*[10_000_000] * 8)), coins(*[5_000_000] * 8)),  # one owner's coins
        (coins(*[10_000_000] * 8), shared(coins(*[5_000_000] * 8))),  # to one address
        (coins(*[10_000] * 8, of="p2tr"), coins(*[546] * 8, of="p2tr")),  # inscriptions
        (coins(100_000_000), coins(*[5_000_000] * 8)),  # a payout of equal amounts
    ],
)
def test_what_one_owner_does_is_no_coinjoin(spent: list[Coin], paid: list[Coin]) -> None:
    assert KINDS.isdisjoint(said(pay(spent, paid)))
