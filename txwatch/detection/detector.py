"""What a detector is: an absolute rule, which looks for one thing and says in words what it saw."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from txwatch.detection.reasons import Reason
from txwatch.features.batch import Flags, Floats, TransactionBatch
from txwatch.features.contract import FEATURE_NAMES

Finding = tuple[int, Reason]
"""A transaction's row in the batch, and what is said of it."""


def column(features: Floats, name: str) -> Floats:
    """One feature of every row."""
    values: Floats = features[:, FEATURE_NAMES.index(name)]
    return values


class Detector(ABC):
    """A rule, for a batch of n transactions and their features of shape (n, len(FEATURE_NAMES))."""

    kinds: ClassVar[tuple[str, ...]]
    """The kinds that it finds, of `kinds.KINDS`. The first is the one that `likely` is about."""

    @abstractmethod
    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        """The rows that the rule fits, each with its reason."""

    def likely(self, features: Floats) -> Flags:
        """The rows that the rule likely fits, by features alone: training has no addresses at hand."""
        return np.zeros(len(features), np.bool_)
