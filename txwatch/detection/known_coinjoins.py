"""Golden cases of coinjoins, by protocol, and payments that resemble them: none alerts, and each gets the right tag."""

from txwatch.detection.cases import Case, Coin, case
from txwatch.detection.coinjoin_protocols import DENOMINATIONS


def known_coinjoins(fee_rate: float) -> list[Case]:
    """Rounds, what precedes them and what resembles them, in a network that pays this median fee rate, sat/vB."""
    return [*_rounds(fee_rate), _stonewall(fee_rate)]


def _rounds(fee_rate: float) -> list[Case]:
    standard = sorted(amount for amount in DENOMINATIONS if 100_000 < amount < 50_000_000)
    changes = [350_000, 2_144_295, 7_356_780, 9_894_772, 20_511_003, 31_917_495, 62_385_190, 90_743_856]
    one_share = round(110 * fee_rate)  # of an input, an equal output and a change
    return [
        # Five owners mix one amount. A tag, and an alert only for who asks for it.
        case(
            "a coinjoin of five",
            [Coin("p2wpkh", 5_000_000 + (round(85 * fee_rate) if n < 2 else 0) * 2) for n in range(5)],
            [Coin("p2wpkh", 5_000_000)] * 5,
            fee_rate,
            tag="coinjoin",
        ),
        # Sixty owners mix one amount, and forty of them have change.
        case(
            "a coinjoin of sixty with change",
            [
                *(Coin("p2wpkh", 10_000_000 + 123_457 * (n + 1) + round(100 * fee_rate)) for n in range(40)),
                *(Coin("p2wpkh", 10_000_000 + round(100 * fee_rate)) for n in range(20)),
            ],
            [*(Coin("p2wpkh", 10_000_000) for n in range(60)), *(Coin("p2wpkh", 123_457 * (n + 1)) for n in range(40))],
            fee_rate,
            tag="wasabi_1",
        ),
        # Eight coins, of which five were mixed before. One owner takes it to a wallet of several keys.
        case(
            "a Whirlpool round of eight",
            [*[Coin("p2wpkh", 1_000_000)] * 5, *[Coin("p2wpkh", 1_000_200 + round(280 * fee_rate))] * 3],
            [*[Coin("p2wpkh", 1_000_000)] * 7, Coin("p2wsh", 1_000_000)],
            fee_rate,
            tag="whirlpool",
        ),
        # The coordinator of the pool of 0.05 BTC gets 0.00175, and the message to it is the OP_RETURN.
        case(
            "a Tx0 of twelve coins",
            [Coin("p2wpkh", 61_993_500 + round(550 * fee_rate))],
            [
                Coin("op_return", 0),
                Coin("p2wpkh", 175_000),
                Coin("p2wpkh", 1_700_000),
                *[Coin("p2wpkh", 5_009_875)] * 12,
            ],
            fee_rate,
            tag="whirlpool_tx0",
        ),
        # Ninety coins into standard amounts, a few of each, and a coordinator's fee.
        case(
            "a Wasabi 2 round of ninety coins",
            [Coin("p2tr" if n % 2 else "p2wpkh", 8_300_000 + 3_217 * n) for n in range(90)],
            [
                *(
                    Coin("p2wpkh" if n % 2 else "p2tr", amount)
                    for amount in standard
                    if amount < 25_000_000
                    for n in range(3)
                ),
                Coin("p2wpkh", 90 * 8_300_000 + 3_217 * 4_005 - 3 * _below(standard) - round(12_000 * fee_rate)),
            ],
            fee_rate,
            tag="wasabi_2",
        ),
        # Seven makers and the taker, who pays them and the miners.
        case(
            "a JoinMarket round of eight",
            [
                Coin("p2wpkh", 45_281_835 + kept + (9 * one_share + 2_800 if n == 0 else -400))
                for n, kept in enumerate(changes)
            ],
            [*[Coin("p2wpkh", 45_281_835)] * 8, *(Coin("p2wpkh", kept) for kept in changes)],
            fee_rate,
            tag="joinmarket",
        ),
        *(
            # Each brings one coin or two, and gets the equal output and its change.
            case(
                f"a coinjoin of {owners}",
                [
                    *(Coin("p2wpkh", 30_000_000 + kept + one_share) for kept in changes[1:owners]),
                    *(Coin("p2wpkh", 15_000_000 + (changes[0] + one_share) // 2) for _ in range(2)),
                ],
                [*[Coin("p2wpkh", 30_000_000)] * owners, *(Coin("p2wpkh", kept) for kept in changes[:owners])],
                fee_rate,
                tag="coinjoin",
            )
            for owners in (3, 4)
        ),
    ]


def _below(standard: list[int]) -> int:
    return sum(amount for amount in standard if amount < 25_000_000)


def _stonewall(fee_rate: float) -> Case:
    """One wallet pays 0.2 BTC, and the same to itself out of other coins: two sets of coins, as if of two owners."""
    share = round(140 * fee_rate)
    spent = [Coin("p2wpkh", sat) for sat in (12_345_678, 9_400_210 + share, 26_800_400 + share)]
    paid = [Coin("p2wpkh", sat) for sat in (20_000_000, 20_000_000, 1_745_888, 6_800_400)]
    return case("a Stonewall", spent, paid, fee_rate, tag="stonewall")
