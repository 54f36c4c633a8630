"""How alerts of each kind look, and how many of them a chat hears one by one.

What a kind means (whether it alerts, how severe it is, what it claims) is said once, in `txwatch.detection.kinds`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from txwatch.detection.kinds import KINDS as MEANINGS


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
    one_alert_within: timedelta | None = None
    """Findings nearer to each other than this are one event, and one alert."""


_LOOKS: Mapping[str, tuple[str, str, int]] = {
    "fee_accident": ("Fee accident", "🔥", 60),
    "watch_listed": ("Watch-listed address", "👁", 60),
    "whale": ("Whale", "🐋", 40),
    "dormant_round_move": ("Dormant coins move", "🗝", 30),
    "package_fee": ("Very high fee", "🔥", 30),
    "dust_storm": ("Dust storm", "🌫", 6),
    "forest": ("Unusual transaction", "❓", 24),
    "huge_consolidation": ("Huge consolidation", "🧹", 12),
    "coinjoin": ("Coinjoin", "🌀", 30),
    "consolidation": ("Consolidation", "🧹", 30),
    "batch_payout": ("Batch payout", "📤", 30),
    "internal_move": ("Internal move", "🔁", 30),
    "exchange_in": ("Into an exchange", "🏦", 30),
    "exchange_out": ("Out of an exchange", "🏦", 30),
    "exchange_to_exchange": ("Between exchanges", "🏦", 30),
}

KINDS: Mapping[str, Kind] = {
    name: Kind(
        title, symbol, Severity[MEANINGS[name].severity], MEANINGS[name].alerts, alone, MEANINGS[name].one_alert_within
    )
    for name, (title, symbol, alone) in _LOOKS.items()
} | {
    "system": Kind("System", "🛠", Severity.high),
    "recovered": Kind("Recovered", "✅", Severity.low),
}


def kind_named(name: str) -> Kind:
    """The kind's entry. One that the table does not know alerts under its own name: a rule must not fall silent."""
    return KINDS.get(name) or Kind(name.replace("_", " ").capitalize(), "❓", Severity.medium)


def most_severe_first(names: Iterable[str]) -> list[str]:
    """Each name once: those that alert before tags, then by severity, then in the order given."""
    return sorted(dict.fromkeys(names), key=lambda n: (not kind_named(n).alerts, -kind_named(n).severity))
