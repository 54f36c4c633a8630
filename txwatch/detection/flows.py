"""The detector of who moves value to whom, by labels: into, out of and between exchanges, or within one entity."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.findings import Finding, column
from txwatch.detection.reasons import Reason
from txwatch.features.batch import NO_ADDRESS, Coins, TransactionBatch
from txwatch.labels.flows import Coin, flow_of
from txwatch.labels.label import Known


@dataclass(frozen=True)
class LabelledFlow:
    """A flow that labels tell of. Only large transactions are looked at, so that ordinary ones cost no look-up."""

    labels_of: Callable[[Iterable[str]], Mapping[str, Known]]
    min_sat: float
    min_inputs: int

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        large = (batch.value_sat >= self.min_sat) | (column(features, "input_count") >= self.min_inputs)
        coins = {
            row: (_coins(batch, batch.inputs, row), _coins(batch, batch.outputs, row))
            for row in np.flatnonzero(large).tolist()
        }
        addresses = {
            address for sides in coins.values() for side in sides for address, _ in side if address is not None
        }
        known = self.labels_of(addresses) if addresses else {}
        if not known:
            return
        for row, (inputs, outputs) in coins.items():
            flow = flow_of(inputs, outputs, known)
            if flow.kind != "unknown":
                yield row, Reason(flow.kind, flow.text)


def _coins(batch: TransactionBatch, coins: Coins, row: int) -> list[Coin]:
    first, last = np.searchsorted(coins.tx, [row, row + 1])
    numbers, values = coins.address[first:last].tolist(), coins.value[first:last].tolist()
    return [
        (None if number == NO_ADDRESS else batch.addresses[number], value)
        for number, value in zip(numbers, values, strict=True)
    ]
