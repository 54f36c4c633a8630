"""Sums, maxima and counts by transaction over flat arrays of coins. `tx` is sorted; a transaction may have no coin."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def count_where(tx: Ints, condition: NDArray[np.bool_], n: int) -> Floats:
    """How many coins of each of n transactions meet the condition."""
    counts = np.bincount(tx[condition], minlength=n)
    return counts.astype(np.float64)


def sum_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The sum of each transaction's values; exact for satoshi, which stay below 2^53."""
    return np.bincount(tx, values, minlength=n).astype(np.float64)


def max_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The largest value of each transaction, NaN without any or with an unknown one."""
    return _reduce(np.maximum, tx, values, n)


def min_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The smallest value of each transaction, NaN without any or with an unknown one."""
    return _reduce(np.minimum, tx, values, n)


def distinct_by(tx: Ints, keys: Ints, n: int) -> Floats:
    """How many different keys each transaction has. Keys are not negative."""
    if not len(tx):
        return np.zeros(n)
    pairs = np.unique(tx * (int(keys.max()) + 1) + keys)
    return np.bincount(pairs // (int(keys.max()) + 1), minlength=n).astype(np.float64)


@dataclass(frozen=True)
class EqualValues:
    """How often each coin's value occurs in its transaction, and what follows from that; `times` has shape (coins,)."""

    tx: Ints
    times: Ints
    distinct: Floats
    """Different values of each transaction, shape (n,)."""

    @classmethod
    def of(cls, tx: Ints, values: Floats, n: int) -> "EqualValues":
        """Count the values of n transactions. An unknown value, NaN, equals no other."""
        if not len(tx):
            return cls(tx, np.zeros(0, np.int64), np.zeros(n))
        order = np.lexsort((values, tx))
        sorted_tx, sorted_values = tx[order], values[order]
        starts = np.flatnonzero(np.r_[True, (np.diff(sorted_tx) != 0) | (np.diff(sorted_values) != 0)])
        lengths = np.diff(np.r_[starts, len(tx)])
        times = np.empty(len(tx), np.int64)
        times[order] = np.repeat(lengths, lengths)
        return cls(tx, times, np.bincount(sorted_tx[starts], minlength=n).astype(np.float64))

    def most(self, n: int) -> Floats:
        """How often the most frequent value of each transaction occurs; 0 for a transaction without coins."""
        return np.nan_to_num(max_by(self.tx, self.times.astype(np.float64), n))


def member_of_same(tx: Ints, keys: Ints, other_tx: Ints, other_keys: Ints) -> NDArray[np.bool_]:
    """For each coin, whether its transaction has its key on the other side as well. Negative keys match nothing."""
    size = 1 + max(int(keys.max(initial=0)), int(other_keys.max(initial=0)))
    there = other_keys >= 0
    return (keys >= 0) & np.isin(tx * size + keys, other_tx[there] * size + other_keys[there])


def _reduce(ufunc: np.ufunc, tx: Ints, values: Floats, n: int) -> Floats:
    result = np.full(n, np.nan)
    if len(tx):
        starts = np.flatnonzero(np.r_[True, np.diff(tx) != 0])
        result[tx[starts]] = ufunc.reduceat(values, starts)
    return result
