"""Who is paid and what can be spent: recurring addresses and unspent coins, drawn at random."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from txwatch.lab.simulator.addresses import KINDS, PROGRAM_BYTES, Address, make_addresses
from txwatch.lab.simulator.spending import Coin

_BLOCK = 4096
_HEX_BYTES = 16_384
T = TypeVar("T")


def one_by_one(block: Callable[[], list[T]]) -> Callable[[], T]:
    """Gives the items of one block after the other, each call the next item."""
    return chain.from_iterable(iter(block, None)).__next__


class Draws:
    """A seeded stream of random numbers. `share()` is uniform in [0, 1)."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.share: Callable[[], float] = one_by_one(lambda: generator.random(_BLOCK).tolist())
        self._hex = ""
        self._hex_at = 0

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self.share() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.share() * (high - low + 1))

    def log_between(self, low: float, high: float) -> float:
        """A number from low to high, each factor equally likely."""
        return float(low * (high / low) ** self.share())

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.share() * len(items))]

    def hex(self, n: int) -> str:
        """n random bytes in hex."""
        if self._hex_at + 2 * n > len(self._hex):
            self._hex = self.generator.bytes(max(n, _HEX_BYTES)).hex()
            self._hex_at = 0
        start, self._hex_at = self._hex_at, self._hex_at + 2 * n
        return self._hex[start : self._hex_at]

    def places(self, weights: Sequence[float], n: int) -> npt.NDArray[np.int64]:
        """n times the place of one of the weights, drawn by weight."""
        limits = np.cumsum(weights)
        # The last limit is left out, so that rounding leads to no place past the last.
        found: npt.NDArray[np.int64] = np.searchsorted(limits[:-1], self.generator.random(n) * limits[-1], side="right")
        return found

    def of(self, values: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Callable[[], float]:
        """Gives one value a call: what the distribution has at uniform shares."""
        return one_by_one(lambda: values(self.generator.random(_BLOCK)).tolist())


Objects = npt.NDArray[Any]
"""One Python object an entry, so that they are chosen and put in place by masks."""
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

_ADDRESSES_AT_ONCE = 1024
_RECENT = 4096
_HOT = 40
_FRESH_SHARE, _RECENT_SHARE = 0.72, 0.14
_COINS_A_BUCKET = 600


def by_code(shares: Mapping[str, float]) -> list[float]:
    """Shares of script types, in the order of KINDS."""
    return [shares.get(kind, 0.0) for kind in KINDS]


class AddressBook:
    """New addresses, and payees: mostly new, some seen recently, some of a few busy services.

    `codes` are places in KINDS.
    """

    def __init__(self, draws: Draws, payee_types: Mapping[str, float]) -> None:
        self._draws = draws
        self._payee_types = by_code(payee_types)
        self._new = {kind: chain.from_iterable(iter(partial(self._make, kind), None)) for kind in KINDS}
        self._services = self.new(draws.places(self._payee_types, _HOT))
        self._busy = [1 / (i + 2) for i in range(_HOT)]
        self._recent = np.empty(_RECENT, dtype=object)
        self._recent[:_HOT], self._known = self._services, _HOT
        self.payee = one_by_one(lambda: self.payees(_ADDRESSES_AT_ONCE).tolist())
        """Somebody to pay."""

    def new(self, codes: Numbers) -> Objects:
        """An address never seen before for each code."""
        found = np.empty(len(codes), dtype=object)
        for code, kind in enumerate(KINDS):
            places = np.flatnonzero(codes == code)
            found[places] = list(islice(self._new[kind], len(places)))
        return found

    def one(self, kind: str) -> Address:
        """An address never seen before."""
        return next(self._new[kind])

    def services(self, n: int) -> Objects:
        """Busy addresses of exchanges and payment processors."""
        return self._services[self._draws.places(self._busy, n)]

    def payees(self, n: int) -> Objects:
        """n times somebody to pay."""
        random = self._draws.generator
        share = random.random(n)
        fresh, service = share < _FRESH_SHARE, share >= _FRESH_SHARE + _RECENT_SHARE
        paid = self._recent[random.integers(0, self._known, n)]
        paid[service] = self.services(int(service.sum()))
        paid[fresh] = self.new(self._draws.places(self._payee_types, int(fresh.sum())))
        self._remember(paid[fresh])
        return paid

    def _remember(self, fresh: Objects) -> None:
        """In the places that are free, and from then on each in that of another."""
        places = np.arange(self._known, self._known + len(fresh))
        taken = places >= _RECENT
        places[taken] = self._draws.generator.integers(0, _RECENT, int(taken.sum()))
        self._recent[places] = fresh
        self._known = min(_RECENT, self._known + len(fresh))

    def _make(self, kind: str) -> list[Address]:
        programs = self._draws.generator.integers(0, 256, (_ADDRESSES_AT_ONCE, PROGRAM_BYTES[kind]), dtype=np.uint8)
        return make_addresses(kind, programs)


class CoinPool:
    """Unspent outputs of earlier transactions, by script type and magnitude; bounded for long runs."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._buckets: defaultdict[tuple[str, int], list[Coin]] = defaultdict(list)

    def add(self, coins: Iterable[Coin]) -> None:
        """Keep coins to be spent later. A full bucket forgets every other of its coins: they are simply never spent."""
        buckets = self._buckets
        for coin in coins:
            bucket = buckets[coin.owner.kind, coin.value.bit_length()]
            bucket.append(coin)
            if len(bucket) >= _COINS_A_BUCKET:
                del bucket[::2]

    def take(self, kind: str, value: int) -> Coin | None:
        """A coin of about this value (same power of two), which leaves the pool; None if there is none."""
        bucket = self._buckets.get((kind, value.bit_length()))
        if not bucket:
            return None
        i = int(self._draws.share() * len(bucket))
        bucket[i], bucket[-1] = bucket[-1], bucket[i]
        return bucket.pop()


def older_coin(draws: Draws, owner: Address, value: int) -> Coin:
    """A coin from before the simulation began."""
    return Coin(owner, value, int(draws.share() * 3))
