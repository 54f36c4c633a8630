"""The context of a window: what was known of the network and of addresses.

A transaction in window W sees the context as of window W - 2 (`txwatch.clock.context_window`), in every lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = ("transfer", "payment", "consolidation", "batch_payout", "many_to_many")
"""One output; few of both; many into few; few into many; many of both. The order is the code."""

MANY = 5
"""Coins or more are many: a person's payment and its change need fewer."""


def transaction_shapes(input_count: NDArray[Any], output_count: NDArray[Any]) -> NDArray[np.int64]:
    """The code in SHAPES of each transaction."""
    many_in, many_out = input_count >= MANY, output_count >= MANY
    few = np.where(output_count == 1, 0, 1)
    return np.where(many_in, np.where(many_out, 4, 2), np.where(many_out, 3, few)).astype(np.int64)


QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99}
SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24)}


@dataclass(frozen=True)
class NetworkContext:
    """The network in the hour and the day that end with window `as_of`. Quantiles are None with no traffic in them.

    Amounts in satoshi, fee rates in sat/vB. `kind_counts` are in the order of SHAPES.
    """

    as_of: datetime
    version: int
    publication: int = 0
    """What was known: address buckets of later publications are no part of this context."""
    tx_count_1h: int = 0
    tx_count_24h: int = 0
    windows_24h: int = 0
    """Windows that the trailing day really holds."""
    kind_counts_1h: tuple[int, ...] = (0,) * len(SHAPES)
    kind_counts_24h: tuple[int, ...] = (0,) * len(SHAPES)
    p10_value_sat_1h: float | None = None
    median_value_sat_1h: float | None = None
    p90_value_sat_1h: float | None = None
    p99_value_sat_1h: float | None = None
    p10_fee_rate_1h: float | None = None
    median_fee_rate_1h: float | None = None
    p90_fee_rate_1h: float | None = None
    p99_fee_rate_1h: float | None = None
    p10_value_sat_24h: float | None = None
    median_value_sat_24h: float | None = None
    p90_value_sat_24h: float | None = None
    p99_value_sat_24h: float | None = None
    p10_fee_rate_24h: float | None = None
    median_fee_rate_24h: float | None = None
    p90_fee_rate_24h: float | None = None
    p99_fee_rate_24h: float | None = None


@dataclass(frozen=True, slots=True)
class AddressActivity:
    """One address in the day that ends with the context's window. Amounts in satoshi."""

    tx_count: int
    received_sat: int
    spent_sat: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True)
class Context:
    """Network and addresses. An address that is absent was not seen in the trailing day."""

    network: NetworkContext
    addresses: Mapping[str, AddressActivity] = field(default_factory=dict)
