"""Who is paid and what can be spent: addresses that recur as on the real network, and a pool of unspent coins."""

from collections.abc import Mapping

import numpy as np

from txwatch.simulator.addresses import PROGRAM_BYTES, Address, make_addresses
from txwatch.simulator.draws import Draws, Weighted
from txwatch.simulator.forms import FeedOutput, created

_BLOCK = 512
_RECENT = 4096
_HOT = 40
_FRESH_SHARE, _RECENT_SHARE = 0.72, 0.14
_COINS_A_BUCKET = 400


class AddressBook:
    """New addresses, and payees: mostly new, some seen recently, some of a few busy services."""

    def __init__(self, draws: Draws, payee_types: Mapping[str, float]) -> None:
        self._draws = draws
        self._payee_types = Weighted(payee_types)
        self._new: dict[str, list[Address]] = {kind: [] for kind in PROGRAM_BYTES}
        self._recent: list[Address] = []
        self._services = Weighted({self.new(self._payee_types.draw(draws)): 1 / (i + 2) for i in range(_HOT)})

    def new(self, kind: str) -> Address:
        """An address never seen before."""
        stock = self._new[kind]
        if not stock:
            programs = self._draws.generator.integers(0, 256, (_BLOCK, PROGRAM_BYTES[kind]), dtype=np.uint8)
            stock.extend(make_addresses(kind, programs))
        return stock.pop()

    def service(self) -> Address:
        """The busy address of an exchange or a payment processor."""
        return self._services.draw(self._draws)

    def payee(self) -> Address:
        """Somebody to pay."""
        share = self._draws.share()
        if share < _FRESH_SHARE or not self._recent:
            address = self.new(self._payee_types.draw(self._draws))
            self._remember(address)
            return address
        if share < _FRESH_SHARE + _RECENT_SHARE:
            return self._draws.pick(self._recent)
        return self.service()

    def _remember(self, address: Address) -> None:
        if len(self._recent) < _RECENT:
            self._recent.append(address)
        else:
            self._recent[self._draws.below(_RECENT)] = address


class CoinPool:
    """Unspent outputs of earlier transactions, by script type and magnitude; bounded for long runs."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._buckets: dict[tuple[str, int], list[FeedOutput]] = {}

    def add(self, kind: str, coin: FeedOutput) -> None:
        """Keep a coin to be spent later. A full bucket forgets one of its coins: it is simply never spent."""
        bucket = self._buckets.setdefault((kind, coin.value.bit_length()), [])
        if len(bucket) < _COINS_A_BUCKET:
            bucket.append(coin)
        else:
            bucket[self._draws.below(_COINS_A_BUCKET)] = coin

    def take(self, kind: str, value: int) -> FeedOutput | None:
        """A coin of about this value (same power of two), which leaves the pool; None if there is none."""
        bucket = self._buckets.get((kind, value.bit_length()))
        if not bucket:
            return None
        i = self._draws.below(len(bucket))
        bucket[i], bucket[-1] = bucket[-1], bucket[i]
        coin = bucket.pop()
        coin.spent = True
        return coin


def older_coin(draws: Draws, address: Address, value: int) -> FeedOutput:
    """A coin from before the simulation began, as an input spends it."""
    coin = created(address.text, address.script, value, draws.below(3))
    coin.spent = True
    return coin
