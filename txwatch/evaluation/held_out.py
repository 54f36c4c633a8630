"""Windows that a model was not trained on, as the scoring path sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from txwatch.features.context import NetworkContext
from txwatch.features.store import read_features
from txwatch.store.database import Connection
from txwatch.windows import window_range
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True)
class HeldOutWindow:
    """One window as the scoring path sees it; features of shape (transactions, len(FEATURE_NAMES))."""

    transactions: Sequence[Transaction]
    features: NDArray[np.float64]
    network: NetworkContext


def read_held_out(connection: Connection, start: datetime, end: datetime) -> list[HeldOutWindow]:
    """The windows in [start, end) that have features."""
    return [
        HeldOutWindow(stored.transactions, stored.features, stored.context.network)
        for stored in (read_features(connection, window) for window in window_range(start, end))
        if stored.transactions
    ]
