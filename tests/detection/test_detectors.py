"""What each rule finds, and what resembles it and is left alone."""

from collections.abc import Sequence
from datetime import datetime

import pytest

from tests.builders import T0
from tests.modelling import traffic, windows
from txwatch.detection.cases import Coin, sats, written_down
from txwatch.detection.coins import DormantRoundMove
from txwatch.detection.detector import Detector
from txwatch.detection.kinds import KINDS
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import (
    BatchPayout,
    Consolidation,
    DustStorm,
    FeeAccident,
    WatchListed,
    Whale,
    default_detectors,
)
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import Transaction


def found(
    detector: Detector, *transactions: Transaction, fee_rate: float | None = 15.0, **context: object
) -> list[Reason]:
    """The reasons, and that each is of the row that it should be (one transaction at a time has row 0)."""
    reasons = []
    for transaction in transactions:
        batch = TransactionBatch.of([transaction])
        network = NetworkContext(T0, version=1 if context else 0, median_fee_rate_1h=fee_rate)
        features = transaction_features(batch, Context(network, **context))  # type: ignore[arg-type]
        for row, reason in detector.find(batch, features):
            assert row == 0
            reasons.append(reason)
    return reasons


def pay(spent: Sequence[Coin], paid: Sequence[Coin]) -> Transaction:
    return written_down("x", spent, paid)


def of(type_: str, *amounts: float) -> list[Coin]:
    return [Coin(type_, sats(amount)) for amount in amounts]


class TestFeeAccident:
    def test_says_the_fee_its_share_and_the_median(self) -> None:
        [reason] = found(FeeAccident(), pay(of("p2wpkh", 7.085), of("p2wpkh", 0.085)))
        assert reason.kind == "fee_accident"
        assert reason.text.startswith("fee of 7.00 BTC, 99% of what was spent, at ")
        assert reason.text.endswith("times the median of the last hour")

    def test_knows_an_absurd_rate_without_a_median(self) -> None:
        assert found(FeeAccident(), pay(of("p2wpkh", 1.0), of("p2wpkh", 0.9)), fee_rate=None)

    @pytest.mark.parametrize(
        ("spent", "paid"),
        [
            (of("p2wpkh", 0.01), of("p2wpkh", 0.0001)),  # 0.0099 BTC: not absurd in itself
            (of("p2wpkh", *[0.01] * 3_000), of("p2wpkh", 29.9)),  # 0.1 BTC buys 204,000 vB
        ],
    )
    def test_leaves_large_rates_and_large_fees_alone(self, spent: list[Coin], paid: list[Coin]) -> None:
        assert not found(FeeAccident(), pay(spent, paid))


class TestWhale:
    def test_counts_what_likely_moved(self) -> None:
        [reason] = found(Whale(500 * SAT_PER_BTC), pay(of("p2wpkh", 700), of("p2sh", 600) + of("p2wpkh", 99.99)))
        assert reason.text == "600.00 BTC likely moved, of outputs of 699.99 BTC"

    def test_ignores_what_returns_to_the_sender(self) -> None:
        own = Coin("p2wpkh", sats(5_000), "exchange")
        change = Coin("p2wpkh", sats(4_996.9), "exchange")
        assert not found(Whale(500 * SAT_PER_BTC), pay([own], [*of("p2wpkh", 3), change]))

    @pytest.mark.parametrize(
        ("btc", "usd_limit", "price", "is_whale"),
        [
            (20, 1_000_000, 60_000, True),
            (20, 1_200_000, 60_000, True),  # exactly the limit
            (19.9, 1_200_000, 60_000, False),
            (20, 1_000_000, None, False),  # no price: BTC alone
            (20, None, 60_000, False),
            (600, 1_000_000_000, 60_000, True),  # either limit is enough
            (600, 1_000_000_000, None, True),
        ],
    )
    def test_passes_either_limit(
        self, btc: float, usd_limit: float | None, price: float | None, is_whale: bool
    ) -> None:
        whale = Whale(500 * SAT_PER_BTC, usd_limit, lambda _: price)
        assert bool(found(whale, pay(of("p2wpkh", btc + 1), of("p2wpkh", btc)))) is is_whale

    def test_a_batch_is_judged_at_one_price(self) -> None:
        asked = []

        def price_of(moment: datetime) -> float:
            asked.append(moment)
            return 60_000.0

        batch = TransactionBatch.of([pay(of("p2wpkh", n + 1), of("p2wpkh", n)) for n in range(1, 40)])
        features = transaction_features(batch, Context(NetworkContext(T0, version=0)))
        rows = [row for row, _ in Whale(500 * SAT_PER_BTC, 1_200_000, price_of).find(batch, features)]
        assert rows == list(range(19, 39)), "from 20 BTC on"
        assert len(asked) == 1
        assert not list(Whale(500 * SAT_PER_BTC, 1_200_000, price_of).find(TransactionBatch.of([]), features[:0]))


class TestDormantRoundMove:
    def test_finds_a_round_amount_out_of_old_coins(self) -> None:
        [reason] = found(DormantRoundMove(), pay(of("p2pkh", 1_000.1), of("p2wpkh", 1_000) + of("p2pkh", 0.09)))
        assert reason.text == "exactly 1,000.00 BTC out of old-style coins without activity in the last day"

    @pytest.mark.parametrize(
        ("spent", "paid"),
        [
            (of("p2wpkh", 1_000.1), of("p2wpkh", 1_000)),  # a coin of today
            (of("p2pkh", 1_000.1), of("p2wpkh", 1_000.05)),  # not round
            (of("p2pkh", 90.1), of("p2wpkh", 90)),  # not large
            (of("p2pkh", *[100.01] * 20), of("p2wpkh", 2_000)),  # many coins: a service
            ([Coin("p2pkh", sats(2_000), "hot")], [*of("p2wpkh", 1_000), Coin("p2pkh", sats(999.9), "hot")]),
        ],
    )
    def test_leaves_these_alone(self, spent: list[Coin], paid: list[Coin]) -> None:
        assert not found(DormantRoundMove(), pay(spent, paid))

    def test_an_address_that_was_active_is_not_dormant(self) -> None:
        transaction = pay(of("p2pkh", 1_000.1), of("p2wpkh", 1_000))
        active = {"x/from/0": AddressActivity(3, 0, 0, T0, T0)}
        assert not found(DormantRoundMove(), transaction, addresses=active)


class TestDustStorm:
    def test_finds_dust_to_many_addresses(self) -> None:
        dust = [Coin("p2wpkh", 777)] * 30
        [reason] = found(DustStorm(), pay(of("p2wpkh", 0.01), [*dust, Coin("p2wpkh", 900_000)]))
        assert reason.text == "777 sat of dust to each of 30 addresses"

    def test_a_wallet_that_cuts_its_own_coins_is_no_storm(self) -> None:
        own = [Coin("p2tr", 546, "trader")] * 100
        assert not found(DustStorm(), pay([Coin("p2tr", 1_000_000, "trader")], own))
        assert not found(DustStorm(), pay(of("p2tr", 0.01), own))


def test_a_consolidation_of_thousands_is_a_kind_of_its_own() -> None:
    [small] = found(Consolidation(), pay(of("p2wpkh", *[0.01] * 50), of("p2wpkh", 0.49)))
    [huge] = found(Consolidation(), pay(of("p2wpkh", *[0.01] * 2_500), of("p2wpkh", 24)))
    assert (small.kind, huge.kind) == ("consolidation", "huge_consolidation")
    assert small.text == "50 coins merged into one output of 0.49 BTC"
    assert not found(Consolidation(), pay(of("p2wpkh", *[0.01] * 9), of("p2wpkh", 0.08)))


def test_a_payout_has_many_payees_and_few_coins() -> None:
    amounts = [0.01 + 0.003 * n for n in range(40)]
    [reason] = found(BatchPayout(), pay(of("p2wpkh", 5), of("p2wpkh", *amounts)))
    assert reason.text == "payout of 2.74 BTC to 40 addresses at once"
    assert not found(BatchPayout(), pay(of("p2wpkh", *[0.3] * 30), of("p2wpkh", *amounts)))


def test_a_watched_address_is_named_with_what_is_known_of_it() -> None:
    transaction = pay([Coin("p2wpkh", sats(1), "thief")], [*of("p2wpkh", 0.5), Coin("p2wpkh", sats(0.4), "thief")])
    reasons = found(WatchListed({"x/thief": "taken in 2016"}), transaction)
    assert [reason.text for reason in reasons] == [
        "spends from watched address x/thief (taken in 2016)",
        "pays to watched address x/thief (taken in 2016)",
    ]
    assert not found(WatchListed(), transaction)


def test_every_reason_is_of_a_kind_in_the_table_and_every_plant_is_found_by_its_rule() -> None:
    detectors = default_detectors(whale_btc=500)
    kinds: list[set[str]] = []
    for window in windows(minutes=20):
        first = len(kinds)
        kinds += [set() for _ in window.transactions]
        for detector in detectors:
            for row, reason in detector.find(window.batch, window.features):
                kinds[first + row].add(reason.kind)
    assert set().union(*kinds) <= set(KINDS)
    labels = traffic(minutes=20).labels
    for label in {label for label in labels if label}:
        rows = [row for row, known in enumerate(labels) if known == label]
        missed = [row for row in rows if label.removeprefix("plant:") not in kinds[row]]
        assert len(missed) <= 0.02 * len(rows), label
