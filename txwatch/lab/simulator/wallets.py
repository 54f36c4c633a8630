"""Recurring addresses to pay, and unspent coins to spend, drawn at random."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from txwatch.lab.simulator.addresses import ADDRESS_TYPES, PROGRAM_BYTES, Address, make_addresses
from txwatch.lab.simulator.spending import Coin

_BLOCK = 4096
_HEX_BYTES = 16_384
T = TypeVar("T")


def one_by_one(block: Callable[[], list[T]]) -> Callable[[], T]:
    """A function whose calls return the items of one block after the other."""
    return chain.from_iterable(iter(block, None)).__next__


class Draws:
    """A seeded stream of random numbers. `share()` is uniform in [0, 1)."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.share: Callable[[], float] = one_by_one(lambda: generator.random(_BLOCK).tolist())
        self._hex = ""
        self._hex_at = 0

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.share() * (high - low + 1))

    def log_between(self, low: float, high: float) -> float:
        """A number from low to high, uniform in its logarithm."""
        return float(low * (high / low) ** self.share())

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.share() * len(items))]

    def hex(self, n: int) -> str:
        """n random bytes in hex."""
        if self._hex_at + 2 * n > len(self._hex):
            self._hex = self.generator.bytes(max(n, _HEX_BYTES)).hex()
            self._hex_at = 0
        start, self._hex_at = self._hex_at, self._hex_at + 2 * n
        return self._hex[start : self._hex_at]

    def places(self, weights: Sequence[float], n: int) -> npt.NDArray[np.int64]:
        """n indices of weights, drawn by weight."""
        limits = np.cumsum(weights)
        # Without the last limit, so that rounding cannot lead past the last index.
        found: npt.NDArray[np.int64] = np.searchsorted(limits[:-1], self.generator.random(n) * limits[-1], side="right")
        return found

    def of(self, values: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Callable[[], float]:
        """A function whose calls return values of a distribution, given as a function of uniform shares."""
        return one_by_one(lambda: values(self.generator.random(_BLOCK)).tolist())


Objects = npt.NDArray[Any]
"""An array of Python objects, to select and assign them by masks."""
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

_ADDRESSES_AT_ONCE = 1024
_RECENT = 4096
_HOT = 40
_FRESH_SHARE, _RECENT_SHARE = 0.72, 0.14
COINS_A_BUCKET = 600


def by_code(shares: Mapping[str, float]) -> list[float]:
    """Shares of script types in the order of ADDRESS_TYPES."""
    return [shares.get(script_type, 0.0) for script_type in ADDRESS_TYPES]


class AddressBook:
    """New addresses, and payees: mostly new, some recent, some of a few busy services. Codes index ADDRESS_TYPES."""

    def __init__(self, draws: Draws, payee_types: Mapping[str, float]) -> None:
        self._draws = draws
        self._payee_types = by_code(payee_types)
        self._new = {name: chain.from_iterable(iter(partial(self._make, name), None)) for name in ADDRESS_TYPES}
        self._services = self.new(draws.places(self._payee_types, _HOT))
        self._busy = [1 / (i + 2) for i in range(_HOT)]
        self._recent = np.empty(_RECENT, dtype=object)
        self._recent[:_HOT], self._known = self._services, _HOT
        self.payee = one_by_one(lambda: self.payees(_ADDRESSES_AT_ONCE).tolist())

    def new(self, codes: Numbers) -> Objects:
        """A new address for each code."""
        found = np.empty(len(codes), dtype=object)
        for code, script_type in enumerate(ADDRESS_TYPES):
            places = np.flatnonzero(codes == code)
            found[places] = list(islice(self._new[script_type], len(places)))
        return found

    def one(self, script_type: str) -> Address:
        return next(self._new[script_type])

    def services(self, n: int) -> Objects:
        """Busy addresses of exchanges and payment processors."""
        return self._services[self._draws.places(self._busy, n)]

    def payees(self, n: int) -> Objects:
        random = self._draws.generator
        share = random.random(n)
        fresh, service = share < _FRESH_SHARE, share >= _FRESH_SHARE + _RECENT_SHARE
        paid = self._recent[random.integers(0, self._known, n)]
        paid[service] = self.services(int(service.sum()))
        paid[fresh] = self.new(self._draws.places(self._payee_types, int(fresh.sum())))
        self._remember(paid[fresh])
        return paid

    def _remember(self, fresh: Objects) -> None:
        """Put them into free places, then into random ones."""
        places = np.arange(self._known, self._known + len(fresh))
        taken = places >= _RECENT
        places[taken] = self._draws.generator.integers(0, _RECENT, int(taken.sum()))
        self._recent[places] = fresh
        self._known = min(_RECENT, self._known + len(fresh))

    def _make(self, script_type: str) -> list[Address]:
        shape = (_ADDRESSES_AT_ONCE, PROGRAM_BYTES[script_type])
        return make_addresses(script_type, self._draws.generator.integers(0, 256, shape, dtype=np.uint8))


class CoinPool:
    """Unspent outputs of earlier transactions, by script type and power of two of the value; bounded in size."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._buckets: defaultdict[tuple[str, int], list[Coin]] = defaultdict(list)

    def add(self, coins: Iterable[Coin]) -> None:
        """Keep coins to be spent later. A full bucket drops every second one: those are never spent."""
        buckets = self._buckets
        for coin in coins:
            bucket = buckets[coin.owner.type, coin.value.bit_length()]
            bucket.append(coin)
            if len(bucket) >= COINS_A_BUCKET:
                del bucket[::2]

    def take(self, script_type: str, value: int) -> Coin | None:
        """Remove and return a coin of about this value (the same power of two), None if there is none."""
        bucket = self._buckets.get((script_type, value.bit_length()))
        if not bucket:
            return None
        i = int(self._draws.share() * len(bucket))
        bucket[i], bucket[-1] = bucket[-1], bucket[i]
        return bucket.pop()


def older_coin(draws: Draws, owner: Address, value: int) -> Coin:
    """A coin from before the simulation began."""
    return Coin(owner, value, int(draws.share() * 3))
