"""Detectors: absolute rules, each of which claims one thing and says in words what it saw.

Belongs here: their one interface, and which of them the product runs. Each rule is in the module of its subject; what
a kind means for the reader is in `kinds.py`. What is unusual relative to the traffic is the forest's to find.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.amounts import DormantRoundMove, FeeAccident, Whale
from txwatch.detection.findings import Finding
from txwatch.detection.reasons import SAT
from txwatch.detection.shapes import BatchPayout, Coinjoin, Consolidation, DustStorm
from txwatch.detection.watch_list import WatchListed
from txwatch.features.batch import TransactionBatch


class Detector(Protocol):
    """Looks at a batch of n transactions and their features of shape (n, len(FEATURE_NAMES))."""

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """The rows that the rule fits, each with its reason. A reason's kind is one of `kinds.KINDS`."""
        ...


def default_detectors(*, whale_btc: float, watch_list: Mapping[str, str] | None = None) -> list[Detector]:
    """The detectors of the product, in the order in which their reasons are given: the most severe first.

    `watch_list` gives what is known of each watched address.
    """
    return [
        FeeAccident(),
        Whale(whale_btc * SAT),
        DormantRoundMove(),
        WatchListed(watch_list or {}),
        DustStorm(),
        Consolidation(),
        Coinjoin(),
        BatchPayout(),
    ]
