"""Benign look-alikes: what resembles an incident and must not alert, by any model that is promoted.

Fees are given in what others pay, so that the cases stay ordinary in every month.
"""

from txwatch.detection.known_cases import Case, Coin, btc, written_down

_PAYOUTS = [1_000_003 + 41_017 * n * n % 9_000_000 for n in range(60)]


def look_alikes(fee_rate: float) -> list[Case]:
    """The cases for a network that pays this median fee rate, sat/vB."""
    return [
        Case(
            "an exchange pays 3 BTC out of 5,000",
            "Outputs of 5,000 BTC, but all except 3 return to the address that they came from.",
            written_down(
                "hot wallet",
                [Coin("p2wpkh", btc(5_000), "exchange")],
                [
                    Coin("p2wpkh", btc(3)),
                    Coin("p2wpkh", btc(4_997) - round(140 * fee_rate), "exchange"),
                ],
            ),
            fee_rate,
        ),
        Case(
            "a payout to 60 customers",
            "One address pays 60 others different amounts.",
            written_down(
                "payout",
                [Coin("p2wpkh", sum(_PAYOUTS) + btc(4) + round(2_010 * fee_rate), "exchange")],
                [
                    *(Coin("p2wpkh" if n % 3 else "p2sh", sat) for n, sat in enumerate(_PAYOUTS)),
                    Coin("p2wpkh", btc(4), "exchange"),
                ],
            ),
            fee_rate,
            tag="batch_payout",
        ),
        Case(
            "200 coins merged",
            "A merchant merges the coins of a week while space is cheap.",
            written_down(
                "merger",
                [Coin("p2wpkh", 150_000 + 997 * n) for n in range(200)],
                [Coin("p2wpkh", sum(150_000 + 997 * n for n in range(200)) - round(13_700 * fee_rate))],
            ),
            fee_rate,
            tag="consolidation",
        ),
        Case(
            "a large merger that pays for its space",
            "500 coins cost more than 0.01 BTC at 40 sat/vB. That is no accident.",
            written_down(
                "large merger",
                [Coin("p2wpkh", btc(0.05))] * 500,
                [Coin("p2wpkh", btc(25) - round(34_042 * max(fee_rate, 40)))],
            ),
            max(fee_rate, 40),
            tag="consolidation",
        ),
        Case(
            "an inscription whose fee is above half of its input",
            "A taproot coin with data in its witness pays one output of 546 sat, and more than that in fee.",
            written_down(
                "inscription",
                [Coin("p2tr", 546 + round(153 * fee_rate))],
                [Coin("p2tr", 546)],
                extra_vbytes=41,
                rbf=True,
            ),
            fee_rate,
        ),
        Case(
            "a payment in a hurry",
            "Five times what others pay, for a small transaction.",
            written_down(
                "hurry",
                [Coin("p2wpkh", 2_000_000)],
                [Coin("p2wpkh", 750_021), Coin("p2wpkh", 1_249_979 - round(141 * 5 * fee_rate))],
                rbf=True,
            ),
            fee_rate,
        ),
        Case(
            "a coinjoin of five",
            "Five owners mix one amount. A tag, and an alert only for who asks for it.",
            written_down(
                "coinjoin of 5",
                [Coin("p2wpkh", 5_000_000 + (round(85 * fee_rate) if n < 2 else 0) * 2) for n in range(5)],
                [Coin("p2wpkh", 5_000_000)] * 5,
            ),
            fee_rate,
            tag="coinjoin",
        ),
        Case(
            "a coinjoin of sixty with change",
            "Sixty owners mix one amount, and forty of them have change.",
            written_down(
                "coinjoin of 60",
                [
                    *(Coin("p2wpkh", 10_000_000 + 123_457 * (n + 1) + round(100 * fee_rate)) for n in range(40)),
                    *(Coin("p2wpkh", 10_000_000 + round(100 * fee_rate)) for n in range(20)),
                ],
                [
                    *(Coin("p2wpkh", 10_000_000) for n in range(60)),
                    *(Coin("p2wpkh", 123_457 * (n + 1)) for n in range(40)),
                ],
            ),
            fee_rate,
            tag="coinjoin",
        ),
        Case(
            "a sweep of 300 BTC",
            "One coin to one new address, below what counts as a whale.",
            written_down(
                "sweep",
                [Coin("p2wpkh", btc(300.123))],
                [Coin("p2wpkh", btc(300.123) - round(110 * fee_rate))],
            ),
            fee_rate,
        ),
        Case(
            "a wallet cuts itself ten carriers of 600 sat",
            "Dust, but to its own address: preparation of an inscription sale, no storm.",
            written_down(
                "carriers",
                [Coin("p2tr", 1_000_000, "trader")],
                [
                    *(Coin("p2tr", 600, "trader") for _ in range(10)),
                    Coin("p2tr", 994_000 - round(542 * fee_rate), "trader"),
                ],
                rbf=True,
            ),
            fee_rate,
        ),
    ]
