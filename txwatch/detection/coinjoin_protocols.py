"""By which protocol a coinjoin was made, as far as amounts, counts and script types tell, and how sure that is.

A wallet's name is in no transaction: what is told is that real rounds of the protocol look like this, and hardly
anything else does. Rounds of two owners are not told: a Stonewall, which one wallet makes alone so that its payment
resembles a coinjoin, has their form.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from txwatch.detection.reasons import btc


@dataclass(frozen=True)
class Round:
    """What is known of a transaction that may be a coinjoin. Amounts in satoshi, None where unresolved."""

    inputs: Sequence[int | None]
    outputs: Sequence[int]
    """Those that can be spent."""
    input_types: Sequence[str]
    output_types: Sequence[str]
    senders: int
    """Different addresses spent from."""
    receivers: int
    """Different addresses paid to."""
    has_message: bool
    """Whether an OP_RETURN is among its outputs."""

    @cached_property
    def amount(self) -> int:
        """The amount that occurs most often among the outputs, the largest of several."""
        return max(Counter(self.outputs).items(), key=lambda item: (item[1], item[0]))[0]

    @cached_property
    def owners(self) -> int:
        """How often it does: one output for each owner."""
        return Counter(self.outputs)[self.amount]

    @cached_property
    def change(self) -> list[int]:
        """The other outputs."""
        return [value for value in self.outputs if value != self.amount]

    @property
    def spent_type(self) -> str | None:
        """The script type of all coins that it spends, None for several."""
        return self.input_types[0] if len(set(self.input_types)) == 1 else None

    @property
    def spends_from_many(self) -> bool:
        """Whether hardly any address gives more than one coin."""
        return self.senders >= ADDRESSES_TO_COINS * len(self.inputs)


@dataclass(frozen=True)
class Measured:
    """Of so many real transactions that fit, so many are what is claimed."""

    right: int
    fit: int

    @property
    def confidence(self) -> float:
        """The least share that is right, with 95 % certainty: Wilson's lower bound (JASA 22, 1927)."""
        share, n, z = self.right / self.fit, self.fit, 1.645
        middle, spread = share + z * z / (2 * n), z * math.sqrt((share * (1 - share) + z * z / (4 * n)) / n)
        return (middle - spread) / (1 + z * z / n)


WHIRLPOOL_POOLS = (100_000, 1_000_000, 2_500_000, 5_000_000, 25_000_000, 50_000_000)
"""Satoshi. 0.025 and 0.25 BTC are the pools of Ashigaru, which took Whirlpool over in 2025."""
WHIRLPOOL_COINS = range(5, 11)
ABOVE_POOL_SAT = range(100, 110_001)
"""What a new coin brings above its pool's amount, for the fee of its round (Stockinger et al., 2021)."""
POOL_FEES_SAT = {100_000: 5_000, 1_000_000: 50_000, 5_000_000: 175_000, 50_000_000: 1_750_000}
"""What a Tx0 pays its coordinator, by the pool's amount."""
POOL_FEE_PERCENT = (100, 75, 70)
"""Of that fee, by the vouchers that were given out."""
TX0_REST = 3
"""Outputs of a Tx0 beside those that go to the pool, at most: the fee, and change in one or two."""
WABISABI_INPUTS = 20
"""Coordinators after May 2024 begin rounds with fewer than the 50 of before."""
WABISABI_SHARE = 0.8
"""Of the outputs, in standard amounts; the rest is change and the coordinator's fee."""
WABISABI_AMOUNTS = 3
"""Standard amounts that occur more than once."""
WASABI_BASES = (5_000_000, 10_000_000)
WASABI_BASE_WITHIN = 0.2
"""Of the base: what is shared follows from what the owners have, and falls by the fees of each round."""
WASABI_OWNERS = 10
JOINMARKET_OWNERS = range(5, 26)
JOINMARKET_LEAST_SAT = 100_000
"""The least that makers offer by default."""
JOINMARKET_CHANGE_SAT = 27_300
"""No owner gets smaller change (`DUST_THRESHOLD` of jmclient)."""
ADDRESSES_TO_COINS = 0.9
"""Addresses to coins spent: many of one address are one owner's."""


def _denominations() -> frozenset[int]:
    """Wasabi 2's standard amounts: powers of 2 and 3, twice those of 3, and 1, 2 and 5 times those of 10."""
    least, most = 5_000, 134_375_000_000
    series = ((2, (1,)), (3, (1, 2)), (10, (1, 2, 5)))
    amounts = (factor * base**power for base, factors in series for power in range(38) for factor in factors)
    return frozenset(amount for amount in amounts if least <= amount <= most)


DENOMINATIONS = _denominations()

MEASURED = {
    "whirlpool": Measured(1_403, 1_403),
    "whirlpool_tx0": Measured(748, 748),
    "wasabi_2": Measured(33, 33),
    "wasabi_1": Measured(344, 344),
    "joinmarket": Measured(53, 57),
    "coinjoin": Measured(1, 1),
}
"""On the rounds of March, May and June 2024 that Dumplings found (Svenda et al., 2026). A JoinMarket round is right if
a coin links it to another one. `coinjoin` stands for rounds of few owners, of which there is one."""


@dataclass(frozen=True)
class Protocol:
    """What a round fits: a kind, and in words what tells it."""

    kind: str
    text: str

    @property
    def confidence(self) -> float:
        """From 0 to 1."""
        return MEASURED[self.kind].confidence


def protocol_of(round_: Round) -> Protocol | None:
    """The protocol of a round. None for none, and where an address is paid twice: all protocols avoid that."""
    if round_.receivers < len(round_.outputs):
        return None
    if round_.has_message:
        return whirlpool_tx0(round_)
    return whirlpool(round_) or wasabi_2(round_) or wasabi_1(round_) or joinmarket(round_) or balanced(round_)


def whirlpool(round_: Round) -> Protocol | None:
    """As many coins in as out, all out of a pool's amount; some go in with that amount, others with a little more."""
    n, pool = len(round_.outputs), round_.amount
    of_each_one = len(round_.inputs) == round_.senders == round_.owners == n
    if n not in WHIRLPOOL_COINS or not of_each_one or pool not in WHIRLPOOL_POOLS or round_.spent_type != "p2wpkh":
        return None
    above = [value - pool for value in round_.inputs if value is not None]
    again = above.count(0)
    if len(above) < n or not 1 <= again < n or not all(more == 0 or more in ABOVE_POOL_SAT for more in above):
        return None
    return Protocol("whirlpool", f"Whirlpool round of the {btc(pool)} pool, {again} coins mixed again, {n - again} new")


def whirlpool_tx0(round_: Round) -> Protocol | None:
    """One owner's coins cut for a pool, with the fee of its coordinator and a message to it."""
    for pool, fee in POOL_FEES_SAT.items():
        cut = Counter(value for value in round_.outputs if value - pool in ABOVE_POOL_SAT)
        if not cut:
            continue
        amount, coins = max(cut.items(), key=lambda item: (item[1], item[0]))
        rest = [value for value in round_.outputs if value != amount]
        paid = [value for value in rest if value * 100 in [fee * percent for percent in POOL_FEE_PERCENT]]
        if len(paid) == 1 and len(rest) <= TX0_REST:
            into = "1 coin" if coins == 1 else f"{coins:,} coins"
            text = f"Whirlpool Tx0: {into} of {btc(amount)} for the {btc(pool)} pool, fee of {btc(paid[0])} to it"
            return Protocol("whirlpool_tx0", text)
    return None


def wasabi_2(round_: Round) -> Protocol | None:
    """Many coins, and outputs nearly all of standard amounts, several of each of several amounts."""
    standard = Counter(value for value in round_.outputs if value in DENOMINATIONS)
    segwit = {*round_.input_types, *round_.output_types} <= {"p2wpkh", "p2tr"}
    if len(round_.inputs) < WABISABI_INPUTS or not segwit or not round_.spends_from_many:
        return None
    repeated = sum(times > 1 for times in standard.values())
    if standard.total() < WABISABI_SHARE * len(round_.outputs) or repeated < WABISABI_AMOUNTS:
        return None
    return Protocol(
        "wasabi_2", f"Wasabi 2 round, {standard.total():,} of {len(round_.outputs):,} outputs in its standard amounts"
    )


def wasabi_1(round_: Round) -> Protocol | None:
    """Ten owners or more with about one base amount each, all P2WPKH, and change for some."""
    n, base = round_.owners, round_.amount
    near = any(abs(base - known) <= WASABI_BASE_WITHIN * known for known in WASABI_BASES)
    if n < WASABI_OWNERS or not near or round_.senders < n or not 1 <= len(round_.change) <= 2 * n + 1:
        return None
    if {*round_.input_types, *round_.output_types} != {"p2wpkh"} or not round_.spends_from_many:
        return None
    return Protocol("wasabi_1", f"Wasabi 1 round of {n:,} owners at {btc(base)}")


def joinmarket(round_: Round) -> Protocol | None:
    """Change for each owner, or for all but a taker who keeps nothing; coins of one script type, as makers offer them.

    Only the taker's payment may be of another type.
    """
    n, change, own = round_.owners, round_.change, round_.spent_type
    if n not in JOINMARKET_OWNERS or len(change) not in (n - 1, n) or round_.amount < JOINMARKET_LEAST_SAT:
        return None
    of_others = sum(type_ != own for type_ in round_.output_types)
    if own is None or of_others > 1 or min(change) < JOINMARKET_CHANGE_SAT or len(set(change)) < len(change):
        return None
    if round_.senders < n or not round_.spends_from_many:
        return None
    return Protocol("joinmarket", f"JoinMarket round of {n} owners, {len(change)} of them with change")


FEW_OWNERS = (3, 4)
"""Owners of rounds that only their balance tells."""
OTHERS_FEE = 0.005
"""Of the shared amount, the most that one owner gets from another for taking part."""


def balanced(round_: Round) -> Protocol | None:
    """Few owners, whose coins divide into one set for each, which pays one equal output, its change and its fees.

    With more owners or coins some division fits by chance. A payment of one owner who cuts its change does not balance.
    """
    n, amount = round_.owners, round_.amount
    values = [value for value in round_.inputs if value is not None]
    every_one_is_new = len(round_.inputs) == len(values) == round_.senders
    if n not in FEW_OWNERS or len(round_.change) not in (n - 1, n) or not every_one_is_new or len(values) > 2 * n:
        return None
    if amount < JOINMARKET_LEAST_SAT or round_.spent_type is None:
        return None
    if not _balances(round_, values, OTHERS_FEE * amount):
        return None
    return Protocol("coinjoin", f"{btc(amount)} to each of {n} owners, whose coins balance apart: possibly a coinjoin")


STONEWALL_COINS = range(2, 9)
STONEWALL_LEAST_SAT = 5_000


def is_stonewall(round_: Round) -> bool:
    """Whether it pays an amount twice, each time out of a set of coins of its own, with change of its own.

    Of the payments after Whirlpool that have such outputs 98 % do; of the other transactions of a day none.
    """
    values = [value for value in round_.inputs if value is not None]
    known = len(values) == len(round_.inputs) and len(values) in STONEWALL_COINS and not round_.has_message
    formed = round_.owners == len(set(round_.change)) == len(round_.change) == 2 and round_.receivers == 4
    return known and formed and round_.amount >= STONEWALL_LEAST_SAT and _balances(round_, values, 0.0)


def _balances(round_: Round, values: Sequence[int], others_fee: float) -> bool:
    """Whether the coins divide into one set for each owner that pays its equal output, its change and its fees.

    An owner gets `others_fee` satoshi at most from another for taking part, and pays no more than all fees there are.
    """
    n = round_.owners
    most = sum(values) - sum(round_.outputs) + n * others_fee
    kept = sorted(round_.change + [0] * (n - len(round_.change)))
    return any(
        all(-others_fee <= total - round_.amount - change <= most for total, change in zip(totals, kept, strict=True))
        for totals in _divided(values, n)
    )


def _divided(values: Sequence[int], n: int) -> set[tuple[int, ...]]:
    """The totals, smallest first, of each way to divide the values among n."""
    ways = {(0,) * n}
    for value in values:
        ways = {
            tuple(sorted((*before[:own], before[own] + value, *before[own + 1 :])))
            for before in ways
            for own in range(n)
        }
    return ways
