"""Labelled anomalies (plants), their schedule, the replacement of some before they are mined, and what peels others.

Only plants whose outputs nobody spends are replaced: what spends an output of a transaction that is never mined cannot
be mined either.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from txwatch.lab.simulator.addresses import Address
from txwatch.lab.simulator.ordinary import MAX_FEE_SAT, OrdinaryTraffic
from txwatch.lab.simulator.spending import UNLOCKING, Coin, Draft, sizes_of, total
from txwatch.lab.simulator.wallets import AddressBook, Draws, older_coin
from txwatch.wire.messages import SAT_PER_BTC

DUST_STORM = "dust_storm"
PLANTS_PER_HOUR: Mapping[str, float] = {
    "fee_accident": 20.0,
    "whale": 20.0,
    "coinjoin": 24.0,
    "dormant_round_move": 12.0,
    DUST_STORM: 4.0,
}
"""Events an hour; a dust storm is one event of tens of transactions. Together below 0.5 % of the default traffic."""

FIRST_WITHIN_SECONDS = 120.0
_JITTER = 0.25
_STORM_TRANSACTIONS = (20, 60)
_STORM_SECONDS = 40.0
_DUST_VALUES = (294, 330, 546, 547, 600, 777)
_COINJOIN_DENOMINATIONS = (100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000)
_ROUND_BTC = (100, 200, 250, 500, 1_000, 2_000)


def fee_accident(draws: Draws, traffic: OrdinaryTraffic) -> Draft:
    """A payment with change and a fee of 0.05 to 20 BTC, as if an amount was mistaken for the fee."""
    fee = int(draws.log_between(0.05 * SAT_PER_BTC, 20 * SAT_PER_BTC))
    paid = int(draws.log_between(0.01 * SAT_PER_BTC, 5 * SAT_PER_BTC))
    change = int(draws.log_between(0.001 * SAT_PER_BTC, 2 * SAT_PER_BTC))
    book = traffic.book
    outputs = _outputs((book.payee(), paid), (book.one("p2wpkh"), change))
    size = sizes_of(UNLOCKING["p2wpkh"], 1, outputs)
    coin = older_coin(draws, book.one("p2wpkh"), paid + change + fee)
    return Draft([coin], UNLOCKING["p2wpkh"], True, outputs, size)


def whale(draws: Draws, traffic: OrdinaryTraffic) -> Draft:
    """500 to 3,000 BTC to a new address; the change is small and goes to another new one."""
    moved = int(draws.log_between(510 * SAT_PER_BTC, 3_000 * SAT_PER_BTC))
    change = int(draws.log_between(0.01 * SAT_PER_BTC, 10 * SAT_PER_BTC))
    script_type = draws.pick(("p2wpkh", "p2wsh", "p2tr"))
    book, inputs = traffic.book, draws.between(2, 6)
    outputs = _outputs((book.one(draws.pick(("p2wpkh", "p2wsh"))), moved), (book.one(script_type), change))
    size = sizes_of(UNLOCKING[script_type], inputs, outputs)
    needed = moved + change + _ordinary_fee(traffic, size.vsize)
    share = needed // inputs
    values = [share] * (inputs - 1) + [needed - share * (inputs - 1)]
    coins = [older_coin(draws, book.one(script_type), value) for value in values]
    return Draft(coins, UNLOCKING[script_type], False, outputs, size)


def coinjoin(draws: Draws, traffic: OrdinaryTraffic) -> Draft:
    """n inputs and n equal outputs, and the change of most participants; all addresses are new."""
    people = draws.between(5, 8) if draws.share() < 0.5 else draws.between(9, 60)
    denomination = draws.pick(_COINJOIN_DENOMINATIONS)
    if draws.share() < 0.3:  # in a market of makers, any amount
        denomination = int(draws.log_between(200_000, 100_000_000))
    with_change = 0 if draws.share() < 0.3 else draws.between(people // 2, people - 1)
    script_type = draws.pick(("p2wpkh", "p2wpkh", "p2tr"))
    book = traffic.book
    changes = [int(denomination * draws.log_between(0.02, 3.0)) for _ in range(with_change)]
    receivers = [(book.one(script_type), denomination) for _ in range(people)]
    receivers += [(book.one(script_type), change) for change in changes]
    outputs = _outputs(*sorted(receivers, key=lambda r: r[0].script))  # BIP 69 order within an amount hides who is who
    size = sizes_of(UNLOCKING[script_type], people, outputs)
    fee_share = -(-_ordinary_fee(traffic, size.vsize) // people)
    values = [denomination + change + fee_share for change in changes]
    values += [denomination + fee_share] * (people - with_change)
    coins = [older_coin(draws, book.one(script_type), value) for value in values]
    return Draft(coins, UNLOCKING[script_type], False, outputs, size)


def dust_payment(draws: Draws, traffic: OrdinaryTraffic) -> Draft:
    """One transaction of a dust storm: the same dust to 20 to 120 addresses."""
    n, dust = draws.between(20, 120), draws.pick(_DUST_VALUES)
    book = traffic.book
    sender = book.one("p2wpkh")
    outputs = _outputs(*[(book.payee(), dust) for _ in range(n)], (sender, draws.between(10_000, 400_000)))
    size = sizes_of(UNLOCKING["p2wpkh"], 1, outputs)
    value = total(outputs) + _ordinary_fee(traffic, size.vsize)
    return Draft([older_coin(draws, sender, value)], UNLOCKING["p2wpkh"], True, outputs, size)


def dormant_round_move(draws: Draws, traffic: OrdinaryTraffic) -> Draft:
    """An exactly round amount, such as 1,000.00000000 BTC, out of old P2PKH coins with uncompressed keys."""
    amount = draws.pick(_ROUND_BTC) * SAT_PER_BTC
    book, inputs = traffic.book, draws.between(1, 4)
    unlocking = UNLOCKING["p2pkh_uncompressed"]
    outputs = _outputs((book.one("p2wpkh"), amount), (book.one("p2pkh"), draws.between(1_000_000, 2 * SAT_PER_BTC)))
    size = sizes_of(unlocking, inputs, outputs)
    fee = _ordinary_fee(traffic, size.vsize)
    values = [amount // inputs // SAT_PER_BTC * SAT_PER_BTC] * (inputs - 1)
    values.append(total(outputs) + fee - sum(values))
    coins = [older_coin(draws, book.one("p2pkh"), value) for value in values]
    return Draft(coins, unlocking, False, outputs, size, version=1)


BUILDERS: Mapping[str, Callable[[Draws, OrdinaryTraffic], Draft]] = {
    "fee_accident": fee_accident,
    "whale": whale,
    "coinjoin": coinjoin,
    "dormant_round_move": dormant_round_move,
    DUST_STORM: dust_payment,
}


def label(kind: str) -> str:
    """The label of what was planted as a kind."""
    return f"plant:{kind}"


def schedule(
    draws: Draws, per_hour: Mapping[str, float], first_whale_within: float = FIRST_WITHIN_SECONDS
) -> Iterator[tuple[float, str]]:
    """(seconds since the start, kind) of each planted transaction, in order, without end.

    The first of each kind comes within FIRST_WITHIN_SECONDS, the first whale within `first_whale_within` seconds.
    Raises ValueError for an unknown kind.
    """
    if unknown := set(per_hour) - set(BUILDERS):
        raise ValueError(f"no plant named {', '.join(sorted(unknown))}; there are {', '.join(BUILDERS)}")
    due: list[tuple[float, str, bool]] = []
    nominal: dict[str, float] = {}
    for kind, rate in per_hour.items():
        if rate > 0:
            within = first_whale_within if kind == "whale" else FIRST_WITHIN_SECONDS
            nominal[kind] = min(within, 3600.0 / rate) * (0.2 + 0.7 * draws.share())
            due.append((nominal[kind], kind, True))
    heapq.heapify(due)
    while due:
        at, kind, opens = heapq.heappop(due)
        yield at, kind
        if not opens:
            continue
        if kind == DUST_STORM:
            for _ in range(draws.between(*_STORM_TRANSACTIONS) - 1):
                heapq.heappush(due, (at + _STORM_SECONDS * draws.share(), kind, False))
        interval = 3600.0 / per_hour[kind]
        nominal[kind] += interval
        heapq.heappush(due, (nominal[kind] + interval * _JITTER * (2 * draws.share() - 1), kind, True))


def _outputs(*receivers: tuple[Address, int]) -> list[Coin]:
    return [Coin(address, value, n) for n, (address, value) in enumerate(receivers)]


def _ordinary_fee(traffic: OrdinaryTraffic, vsize: int) -> int:
    """An ordinary fee, satoshi."""
    return max(vsize, min(MAX_FEE_SAT, round(traffic.fee_rate() * vsize)))


REPLACED_KINDS = frozenset({"whale"})
REPLACED_SHARE = 0.2
"""Share of them that the local feed replaces."""
_REPLACED_AFTER_SECONDS = (20.0, 240.0)
_FEE_FACTOR = (1.5, 4.0)


class Replacement(NamedTuple):
    """A draft, when it is sent in place of which txid, in seconds since the start."""

    seconds: float
    replaces: str
    labels: tuple[str, ...]
    draft: Draft


class Replacements:
    """The replacements that are due later, the next one first."""

    def __init__(self, draws: Draws, share: float) -> None:
        self._draws = draws
        self._share = share
        self._due: list[Replacement] = []

    @property
    def next_at(self) -> float:
        """When the next one is due; infinity for never."""
        return self._due[0].seconds if self._due else inf

    def consider(self, seconds: float, txid: str, labels: tuple[str, ...], draft: Draft) -> None:
        """Plan a replacement of a transaction sent at this moment, in the share of cases."""
        if self._draws.share() < self._share:
            at = seconds + self._draws.log_between(*_REPLACED_AFTER_SECONDS)
            bumped = with_fee_times(self._draws.log_between(*_FEE_FACTOR), draft)
            heapq.heappush(self._due, Replacement(at, txid, labels, bumped))

    def pop(self) -> Replacement:
        return heapq.heappop(self._due)


def with_fee_times(factor: float, draft: Draft) -> Draft:
    """The payment with `factor` times its fee, taken from its last output, the change.

    It is at least 1 sat/vB more, which relaying it again costs.
    """
    more = max(int(draft.fee_sat * (factor - 1)), draft.sizes.vsize)
    *paid, change = draft.outputs
    return replace(draft, rbf=True, outputs=[*paid, replace(change, value=change.value - more)])


PEEL_CHAIN = "peel_chain"
PEELED_KINDS = frozenset({"whale"})
PEELED_SHARE = 0.25
"""Share of them that the local feed peels; the first one in any case, so that a demo shows it."""
_PEELED_AFTER_SECONDS = (10.0, 40.0)
_PEELED_HOPS = (3, 8)
_PEELED_PART = (0.01, 0.08)
"""Of what is left, that each hop pays to somebody."""


class Peel(NamedTuple):
    """A hop that is due, in seconds since the start: it spends a coin at a fee rate, in sat/vB; `hops` follow it."""

    seconds: float
    coin: Coin
    fee_rate: float
    hops: int


class PeelChains:
    """The hops that are due later, the next one first. A planted coin is peeled, the rest is spent again and so on."""

    def __init__(self, draws: Draws, book: AddressBook, share: float) -> None:
        self._draws = draws
        self._book = book
        self._share = share
        self._due: list[Peel] = []
        self._begun = 0

    @property
    def next_at(self) -> float:
        """When the next one is due; infinity for never."""
        return self._due[0].seconds if self._due else inf

    def consider(self, seconds: float, draft: Draft) -> bool:
        """Whether the first output of a transaction sent at this moment will be peeled, in the share of cases."""
        if not self._share or (self._begun and self._draws.share() >= self._share):
            return False
        self._begun += 1
        self._plan(seconds, draft.outputs[0], draft.fee_sat / draft.sizes.vsize, self._draws.between(*_PEELED_HOPS))
        return True

    def pop(self) -> tuple[float, Draft]:
        """The next hop, and when it is sent."""
        due = heapq.heappop(self._due)
        part = int(due.coin.value * self._draws.log_between(*_PEELED_PART))
        type_ = due.coin.owner.type
        outputs = _outputs((self._book.payee(), part), (self._book.one(type_), 0))
        size = sizes_of(UNLOCKING[type_], 1, outputs)
        rest = outputs[1]
        rest.value = due.coin.value - part - max(size.vsize, min(MAX_FEE_SAT, round(due.fee_rate * size.vsize)))
        if due.hops > 1:
            self._plan(due.seconds, rest, due.fee_rate, due.hops - 1)
        return due.seconds, Draft([due.coin], UNLOCKING[type_], False, outputs, size)

    def _plan(self, seconds: float, coin: Coin, fee_rate: float, hops: int) -> None:
        at = seconds + self._draws.log_between(*_PEELED_AFTER_SECONDS)
        heapq.heappush(self._due, Peel(at, coin, fee_rate, hops))
