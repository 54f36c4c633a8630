"""Kinds of transactions by their shape, coarse enough to be counted for the whole network."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("transfer", "payment", "consolidation", "batch_payout", "many_to_many")
"""One output; few of both; many into few; few into many; many of both. The order is the code."""

MANY = 5
"""Coins from which on they are many: more than a person's payment and its change need."""


def transaction_kinds(input_count: NDArray[Any], output_count: NDArray[Any]) -> NDArray[np.int64]:
    """The code in KINDS of each transaction."""
    many_in, many_out = input_count >= MANY, output_count >= MANY
    few = np.where(output_count == 1, 0, 1)
    return np.where(many_in, np.where(many_out, 4, 2), np.where(many_out, 3, few)).astype(np.int64)
