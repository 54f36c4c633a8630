"""The detector of watched addresses: exact matches, no guess."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.findings import Finding
from txwatch.detection.reasons import Reason
from txwatch.features.batch import TransactionBatch


@dataclass(frozen=True)
class WatchListed:
    """A watched address is spent from or paid to. `known` says of each watched address what is known of it."""

    known: Mapping[str, str] = field(default_factory=dict)

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:  # noqa: ARG002
        """See `Detector.find`. One reason for each watched address and side."""
        watched = [number for number, address in enumerate(batch.addresses) if address in self.known]
        for coins, words in ((batch.inputs, "spends from"), (batch.outputs, "pays to")):
            hit = np.isin(coins.address, watched)
            for row, number in sorted(set(zip(coins.tx[hit].tolist(), coins.address[hit].tolist(), strict=True))):
                address = batch.addresses[number]
                yield row, Reason("watch_listed", f"{words} watched address {address} ({self.known[address]})")
