"""Detectors: absolute rules, each of which claims one thing and says in words what it saw.

Belongs here: their one interface, and which of them the product runs. Each rule is in the module of its subject; what
a kind means for the reader is in `kinds.py`. What is unusual relative to the traffic is the forest's to find.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.packages import ParentsOf, no_parents, stored_parents
from txwatch.detection.reasons import SAT, Reason
from txwatch.detection.rules import (
    BatchPayout,
    Coinjoin,
    Consolidation,
    DormantRoundMove,
    DustStorm,
    FeeAccident,
    Finding,
    LabelledFlow,
    WatchListed,
    Whale,
)
from txwatch.features.batch import TransactionBatch
from txwatch.labels.store import GivenAddresses, KnownAddresses, StoredAddresses, read_version
from txwatch.store.database import Connection

NOTHING_KNOWN = GivenAddresses()


class Detector(Protocol):
    """Looks at a batch of n transactions and their features of shape (n, len(FEATURE_NAMES))."""

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """The rows that the rule fits, each with its reason. A reason's kind is one of `kinds.KINDS`."""
        ...


def find_all(
    detectors: Sequence[Detector], batch: TransactionBatch, features: NDArray[np.float64]
) -> dict[int, list[Reason]]:
    """What all of them find, by row, in the order of the detectors."""
    reasons: dict[int, list[Reason]] = {}
    for detector in detectors:
        for row, reason in detector.find(batch, features):
            reasons.setdefault(row, []).append(reason)
    return reasons


def default_detectors(
    *, whale_btc: float, known: KnownAddresses = NOTHING_KNOWN, parents_of: ParentsOf = no_parents
) -> list[Detector]:
    """The detectors of the product, in the order in which their reasons are given: the most severe first.

    `known` is what is known of addresses, and `parents_of` gives the unconfirmed parents of transactions;
    `CurrentDetectors` takes both from the database.
    """
    whale = Whale(whale_btc * SAT)
    dormant = DormantRoundMove()
    consolidation = Consolidation()
    return [
        FeeAccident(parents_of=parents_of),
        whale,
        dormant,
        WatchListed(known.watched),
        DustStorm(),
        LabelledFlow(known.labels_of, min(whale.min_moved_sat, dormant.min_sat), consolidation.huge_inputs),
        consolidation,
        Coinjoin(),
        BatchPayout(),
    ]


@dataclass
class CurrentDetectors:
    """The detectors of the product with what the database knows of addresses by now.

    Called with a connection before each batch or run. The watch list is read again when it or a label has changed.
    """

    whale_btc: float
    _built: tuple[Connection, int, list[Detector]] | None = field(default=None, init=False, repr=False)

    def __call__(self, connection: Connection) -> Sequence[Detector]:
        """The detectors as of now. Raises psycopg.OperationalError when the database is away."""
        version = read_version(connection)  # before the list: what changes in between is read again the next time
        if self._built is None or self._built[0] is not connection or self._built[1] != version:
            known = StoredAddresses.on(connection)
            detectors = default_detectors(whale_btc=self.whale_btc, known=known, parents_of=stored_parents(connection))
            self._built = (connection, version, detectors)
        return self._built[2]
