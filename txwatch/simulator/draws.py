"""Random numbers one at a time, taken from numpy blocks: a call to a Generator for each costs ten times as much."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import log
from typing import Generic, TypeVar

import numpy as np

_BLOCK = 8192
T = TypeVar("T")


class Draws:
    """A seeded stream of random numbers."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self._block: list[float] = []
        self._hex = ""
        self._hex_at = 0

    def share(self) -> float:
        """Uniform in [0, 1)."""
        if not self._block:
            self._block = self.generator.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self.share() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.share() * (high - low + 1))

    def log_between(self, low: float, high: float) -> float:
        """A number from low to high, each factor equally likely."""
        return float(low * (high / low) ** self.share())

    def exponential(self) -> float:
        """Exponential with mean 1."""
        return -log(1.0 - self.share())

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.share() * len(items))]

    def hex(self, n: int) -> str:
        """n random bytes in hex."""
        if self._hex_at + 2 * n > len(self._hex):
            self._hex = self.generator.bytes(max(n, 65_536)).hex()
            self._hex_at = 0
        start, self._hex_at = self._hex_at, self._hex_at + 2 * n
        return self._hex[start : self._hex_at]


class Weighted(Generic[T]):
    """Draws one of the items by weight."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._items = list(weights)
        self._limits = list(accumulate(weights.values()))

    def draw(self, draws: Draws) -> T:
        return self._items[bisect(self._limits, draws.share() * self._limits[-1], hi=len(self._items) - 1)]
