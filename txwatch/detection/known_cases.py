"""Golden cases: incidents that must alert, and look-alikes of them that must not.

Incidents follow what was published of each: amounts, counts and script types are real, addresses are made up, sizes
follow from the script types. Fees of look-alikes follow from what others pay: so they are ordinary in every month.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from txwatch.detection.cases import Case, Coin, case, sats
from txwatch.detection.detector import Detector
from txwatch.detection.kinds import raising
from txwatch.detection.known_coinjoins import known_coinjoins
from txwatch.detection.model import Model
from txwatch.detection.score import score


@dataclass(frozen=True)
class Verdict:
    """What a model and the detectors say of a case. `first` is the kind of the first alerting reason."""

    case: Case
    first: str | None
    kinds: tuple[str, ...]
    score: float
    threshold: float

    @property
    def right(self) -> bool:
        """Whether it is as expected."""
        return self.first == self.case.expected and (self.case.tag is None or self.case.tag in self.kinds)


def judge_cases(cases: Sequence[Case], model: Model, detectors: Sequence[Detector]) -> list[Verdict]:
    """Put each case through the one scoring path."""
    verdicts = []
    for one in cases:
        [scored] = score([one.transaction], one.context, model, detectors)
        kinds = tuple(dict.fromkeys(reason.kind for reason in scored.reasons))
        first = next((kind for kind in kinds if raising([kind])), None)
        if first is None and scored.is_anomaly:
            first = "forest"  # unusual, and no single feature stands out
        verdicts.append(Verdict(one, first, kinds, scored.score, scored.threshold))
    return verdicts


@cache
def incidents() -> tuple[Case, ...]:
    """Transactions that must alert."""
    fees = (
        # 23 November 2023: 139.42 BTC spent, 55.77 BTC received, the rest was the fee.
        ("fee of 83.65 BTC in block 818087", "p2wpkh", 139.42, [55.77], 60),
        # 26 April 2016: 291.241 BTC spent for a payment of 0.0001 BTC. Amount and fee were mixed up.
        ("fee of 291 BTC in 2016", "p2pkh", 291.241, [0.0001], 40),
        # 10 September 2023, block 807057: 0.074 BTC were to be paid, the change went to the miner in part.
        ("fee of 19.82 BTC by a payment company", "p2wpkh", 19.82 + 0.074 + 119.1, [0.074, 119.1], 25),
        # 28 November 2012, the first halving: 7 of 7.085 BTC paid as fee (891af643).
        ("fee of 7 BTC in block 210000", "p2pkh", 7.085, [0.085], 100),
        # 28 November 2012: 0.837 of 0.937 BTC paid as fee (e49b1178).
        ("fee of 0.837 BTC in block 210000", "p2pkh", 0.937, [0.1], 100),
    )
    return (
        *(
            case(name, [Coin(of, sats(spent))], [Coin(of, sats(x)) for x in paid], rate, expected="fee_accident")
            for name, of, spent, paid, rate in fees
        ),
        # A service merged 20,000 coins in one message of 3.9 MB. Its fee of 0.68 BTC is what the space costs.
        case(
            "a transaction of 20,000 inputs",
            [Coin("p2wpkh", 30_000)] * 20_000,
            [Coin("p2wpkh", 30_000 * 20_000 - sats(0.68))],
            50,
            expected="huge_consolidation",
        ),
        *(
            # 4 July 2025: eight times exactly 10,000 BTC from addresses that had been silent for 14 years.
            case(
                f"10,000 BTC out of 2011, move {n} of 8",
                [Coin("p2pkh", sats(10_000)), Coin("p2pkh", 40_000 * n)],
                [Coin("p2wpkh", sats(10_000)), Coin("p2wpkh", 40_000 * n - 3_000)],
                3,
                expected="whale",
                tag="dormant_round_move",
            )
            for n in range(1, 9)
        ),
        # The same as a node tells it: coins of April 2011, at the height of that day.
        case(
            "10,000 BTC out of 2011, by age",
            [Coin("p2pkh", sats(10_000), height=117_800, mined=False)],
            [Coin("p2wpkh", sats(10_000) - 3_000)],
            3,
            expected="whale",
            tag="dormant_coins",
            tip_height=903_920,
        ),
        # September 2024: rewards of the first weeks moved, 50 BTC each.
        case(
            "50 BTC mined in January 2009",
            [Coin("p2pk", sats(50), height=2_500, mined=True)],
            [Coin("p2pkh", sats(50) - 2_000)],
            10,
            expected="dormant_coins",
            tip_height=862_000,
        ),
    )


_PAYOUTS = [1_000_003 + 41_017 * n * n % 9_000_000 for n in range(60)]


def look_alikes(fee_rate: float) -> list[Case]:
    """Transactions that must not alert in a network that pays this median fee rate, sat/vB."""
    return [
        # Outputs of 5,000 BTC, but all except 3 return to the address that they came from.
        case(
            "an exchange pays 3 BTC out of 5,000",
            [Coin("p2wpkh", sats(5_000), "exchange")],
            [Coin("p2wpkh", sats(3)), Coin("p2wpkh", sats(4_997) - round(140 * fee_rate), "exchange")],
            fee_rate,
        ),
        # One address pays 60 others different amounts.
        case(
            "a payout to 60 customers",
            [Coin("p2wpkh", sum(_PAYOUTS) + sats(4) + round(2_010 * fee_rate), "exchange")],
            [
                *(Coin("p2wpkh" if n % 3 else "p2sh", sat) for n, sat in enumerate(_PAYOUTS)),
                Coin("p2wpkh", sats(4), "exchange"),
            ],
            fee_rate,
            tag="batch_payout",
        ),
        # A merchant merges the coins of a week while space is cheap.
        case(
            "200 coins merged",
            [Coin("p2wpkh", 150_000 + 997 * n) for n in range(200)],
            [Coin("p2wpkh", sum(150_000 + 997 * n for n in range(200)) - round(13_700 * fee_rate))],
            fee_rate,
            tag="consolidation",
        ),
        # 500 coins cost more than 0.01 BTC at 40 sat/vB. That is no accident.
        case(
            "a large merger that pays for its space",
            [Coin("p2wpkh", sats(0.05))] * 500,
            [Coin("p2wpkh", sats(25) - round(34_042 * max(fee_rate, 40)))],
            max(fee_rate, 40),
            tag="consolidation",
        ),
        # A taproot coin with data in its witness pays one output of 546 sat, and more than that in fee.
        case(
            "an inscription whose fee is above half of its input",
            [Coin("p2tr", 546 + round(153 * fee_rate))],
            [Coin("p2tr", 546)],
            fee_rate,
            extra_vbytes=41,
            rbf=True,
        ),
        # Five times what others pay, for a small transaction.
        case(
            "a payment in a hurry",
            [Coin("p2wpkh", 2_000_000)],
            [Coin("p2wpkh", 750_021), Coin("p2wpkh", 1_249_979 - round(141 * 5 * fee_rate))],
            fee_rate,
            rbf=True,
        ),
        *known_coinjoins(fee_rate),
        # One coin to one new address, below what counts as a whale.
        case(
            "a sweep of 300 BTC",
            [Coin("p2wpkh", sats(300.123))],
            [Coin("p2wpkh", sats(300.123) - round(110 * fee_rate))],
            fee_rate,
        ),
        # A round amount out of old-style coins, which were made two years before: no sleeper.
        case(
            "200 BTC of two years ago",
            [Coin("p2pkh", sats(200.1), height=735_000, mined=False)],
            [Coin("p2wpkh", sats(200)), Coin("p2pkh", sats(0.1) - round(200 * fee_rate))],
            fee_rate,
            tip_height=840_000,
        ),
        # Coins of 2013, less than one reward of that time.
        case(
            "10 BTC of 2013",
            [Coin("p2pkh", sats(10), height=250_000, mined=False)],
            [Coin("p2pkh", sats(10) - round(200 * fee_rate))],
            fee_rate,
            tip_height=840_000,
        ),
        # Dust, but to its own address: preparation of an inscription sale, no storm.
        case(
            "a wallet cuts itself ten carriers of 600 sat",
            [Coin("p2tr", 1_000_000, "trader")],
            [
                *(Coin("p2tr", 600, "trader") for _ in range(10)),
                Coin("p2tr", 994_000 - round(542 * fee_rate), "trader"),
            ],
            fee_rate,
            rbf=True,
        ),
    ]
