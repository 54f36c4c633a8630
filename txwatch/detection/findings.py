"""What a detector gives for a transaction, and the columns that it looks at."""

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.reasons import Reason
from txwatch.features.contract import FEATURE_NAMES

Finding = tuple[int, Reason]
"""A transaction's row in the batch, and what is said of it."""


def column(features: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """One feature of every row."""
    values: NDArray[np.float64] = features[:, FEATURE_NAMES.index(name)]
    return values
