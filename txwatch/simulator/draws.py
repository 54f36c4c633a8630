"""Random numbers one at a time, taken from numpy blocks: a call to a Generator for each costs ten times as much.

Belongs here: what is drawn one by one. An iterator over blocks has no bytecode of its own, so that a draw costs no more
than a call.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt

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
