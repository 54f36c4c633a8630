"""What is known of the network and of addresses when a transaction is scored: plain values, as of one window.

A transaction in window W sees the context as of window W - 2 (`txwatch.windows.context_window`), in every lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from txwatch.features.kinds import KINDS


@dataclass(frozen=True)
class NetworkContext:
    """The network in the hour and the day that end with window `as_of`. Quantiles are None with no traffic in them.

    Amounts in satoshi, fee rates in sat/vB. `kind_counts` are in the order of `kinds.KINDS`.
    """

    as_of: datetime
    version: int
    publication: int = 0
    """What was known: address buckets of later publications are no part of this context."""
    tx_count_1h: int = 0
    tx_count_24h: int = 0
    windows_24h: int = 0
    """Windows that the trailing day really holds."""
    kind_counts_1h: tuple[int, ...] = (0,) * len(KINDS)
    kind_counts_24h: tuple[int, ...] = (0,) * len(KINDS)
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
    """All that scoring needs beside the transactions. An address that is absent was not seen in the trailing day."""

    network: NetworkContext
    addresses: Mapping[str, AddressActivity] = field(default_factory=dict)
