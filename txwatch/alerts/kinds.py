"""What each kind of finding means: whether it alerts, how loudly, and how a message names it.

This table is the only place that says so. A detector's `kind` is a key of it; `forest` is the model's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How much an alert matters. The names are those that the database keeps; low ones arrive without a sound."""

    low = 1
    medium = 2
    high = 3
    critical = 4


@dataclass(frozen=True)
class Kind:
    """One kind. Without `alerts` it is a tag: shown on an alert that another kind raised, no alert by itself."""

    title: str
    symbol: str
    severity: Severity
    alerts: bool = True
    alone_per_hour: int = 30
    """So many an hour go to a chat one by one; what is beyond goes into digests."""


KINDS: Mapping[str, Kind] = {
    "fee_accident": Kind("Fee accident", "🔥", Severity.critical, alone_per_hour=60),
    "watch_listed": Kind("Watch-listed address", "👁", Severity.high, alone_per_hour=60),
    "whale": Kind("Whale", "🐋", Severity.high, alone_per_hour=40),
    "dormant_round_move": Kind("Dormant coins move", "🗝", Severity.high),
    "dust_storm": Kind("Dust storm", "🌫", Severity.medium, alone_per_hour=6),
    "forest": Kind("Unusual transaction", "❓", Severity.medium, alone_per_hour=24),
    "large_consolidation": Kind("Large consolidation", "🧹", Severity.low, alone_per_hour=12),
    "coinjoin": Kind("Coinjoin", "🌀", Severity.low, alerts=False),
    "consolidation": Kind("Consolidation", "🧹", Severity.low, alerts=False),
    "batch_payout": Kind("Batch payout", "📤", Severity.low, alerts=False),
    "system": Kind("System", "🛠", Severity.high),
    "recovered": Kind("Recovered", "✅", Severity.low),
}


def kind_named(name: str) -> Kind:
    """The kind's entry. One that the table does not know alerts under its own name: a rule must not fall silent."""
    return KINDS.get(name) or Kind(name.replace("_", " ").capitalize(), "❓", Severity.medium)


def most_severe_first(names: Iterable[str]) -> list[str]:
    """Each name once: those that alert before tags, then by severity, then in the order given."""
    return sorted(dict.fromkeys(names), key=lambda n: (not kind_named(n).alerts, -kind_named(n).severity))
