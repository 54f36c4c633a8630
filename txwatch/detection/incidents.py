"""Golden incidents: what really happened and must be found by every model that is promoted.

Written from what was published of each: amounts, counts and script types are real, addresses are made up, sizes follow
from the script types.
"""

from functools import cache

from txwatch.detection.known_cases import Case, Coin, btc, written_down


@cache
def incidents() -> tuple[Case, ...]:
    """The cases."""
    return (
        Case(
            "fee of 83.65 BTC in block 818087",
            "23 November 2023: 139.42 BTC spent, 55.77 BTC received, the rest was the fee..",
            written_down("818087", [Coin("p2wpkh", btc(139.42))], [Coin("p2wpkh", btc(55.77))]),
            fee_rate=60,
            expected="fee_accident",
        ),
        Case(
            "fee of 291 BTC in 2016",
            "26 April 2016: 291.241 BTC spent for a payment of 0.0001 BTC. Amount and fee were mixed up.",
            written_down("291", [Coin("p2pkh", btc(291.241))], [Coin("p2pkh", btc(0.0001))]),
            fee_rate=40,
            expected="fee_accident",
        ),
        Case(
            "fee of 19.82 BTC by a payment company",
            "10 September 2023, block 807057: 0.074 BTC were to be paid, the change went to the miner in part.",
            written_down(
                "807057",
                [Coin("p2wpkh", btc(19.82 + 0.074 + 119.1))],
                [Coin("p2wpkh", btc(0.074)), Coin("p2wpkh", btc(119.1))],
            ),
            fee_rate=25,
            expected="fee_accident",
        ),
        Case(
            "fee of 7 BTC in block 210000",
            "28 November 2012, the first halving: 7 of 7.085 BTC paid as fee (891af643).",
            written_down("891af643", [Coin("p2pkh", btc(7.085))], [Coin("p2pkh", btc(0.085))]),
            fee_rate=100,
            expected="fee_accident",
        ),
        Case(
            "fee of 0.837 BTC in block 210000",
            "28 November 2012: 0.837 of 0.937 BTC paid as fee (e49b1178).",
            written_down("e49b1178", [Coin("p2pkh", btc(0.937))], [Coin("p2pkh", btc(0.1))]),
            fee_rate=100,
            expected="fee_accident",
        ),
        Case(
            "a transaction of 20,000 inputs",
            "A service merged 20,000 coins in one message of 3.9 MB. Its fee of 0.68 BTC is what the space costs.",
            written_down("20000", [Coin("p2wpkh", 30_000)] * 20_000, [Coin("p2wpkh", 30_000 * 20_000 - btc(0.68))]),
            fee_rate=50,
            expected="huge_consolidation",
        ),
        *(
            Case(
                f"10,000 BTC out of 2011, move {n} of 8",
                "4 July 2025: eight times exactly 10,000 BTC from addresses that had been silent for 14 years.",
                written_down(
                    f"2011-{n}",
                    [Coin("p2pkh", btc(10_000)), Coin("p2pkh", 40_000 * n)],
                    [Coin("p2wpkh", btc(10_000)), Coin("p2wpkh", 40_000 * n - 3_000)],
                ),
                fee_rate=3,
                expected="whale",
                tag="dormant_round_move",
            )
            for n in range(1, 9)
        ),
    )
