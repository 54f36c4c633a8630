"""The table of alert kinds: what each says, how it looks and how severe it is, whether it alerts or only tags.

Detectors, alerts, the gate, `docs/alerts.md` and `docs/models.md` follow from it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from txwatch.detection.reasons import Reason
from txwatch.features.contract import FEATURES

RULE_PREFIX = "rule:"
"""What a user's rule finds has the kind `rule:<name>`; where kinds are chosen, `rule:*` stands for all of them."""


class Severity(IntEnum):
    """How much an alert matters. The names are those that the database keeps; low ones arrive without a sound."""

    low = 1
    medium = 2
    high = 3
    critical = 4


@dataclass(frozen=True)
class Kind:
    """One kind. Without `alerts` it is a tag: shown on an alert that another kind raised, no alert by itself."""

    name: str
    title: str
    symbol: str
    severity: Severity
    claim: str
    alerts: bool = True
    alone_per_hour: int = 30
    """So many an hour go to a chat one by one; what is beyond goes into digests."""
    one_alert_within: timedelta | None = None
    """Findings nearer to each other than this are one event, and one alert; the forest's if of one pattern."""
    accounts_for: tuple[str, ...] = ()
    """Features that such a transaction must show: the forest's score leaves them out."""
    silences: tuple[str, ...] = ()
    """Kinds that do not alert on the same transaction."""
    is_news: bool = True
    """Whether its message is worth less later: what is old goes into a digest, without buttons."""


_SPACE = ("vsize", "fee_sat", "outputs_per_input")
_MANY_INPUTS = (*_SPACE, "input_count", "equal_input_share", "input_value_spread", "input_script_types")
_MANY_OUTPUTS = (
    *_SPACE,
    "output_count",
    "largest_output_share",
    "equal_output_count",
    "equal_output_share",
    "equal_output_value_share",
    "output_entropy",
    "distinct_output_values",
    "distinct_output_addresses",
    "round_outputs",
    "output_script_types",
    "same_script_type",
)
_AMOUNT = ("value_sat", "moved_low_sat", "moved_sat", "moved_high_sat", "value_over_median_24h", "value_over_p99_24h")
_FEE = ("fee_sat", "fee_rate", "fee_share", "fee_rate_over_median_1h", "fee_rate_over_median_24h")
_BUSY_ADDRESSES = tuple(feature.name for feature in FEATURES if feature.name.startswith("input_address_"))


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "fee_accident",
            "Fee accident",
            "🔥",
            Severity.critical,
            "A fee that nobody pays on purpose: large in itself, and far above what space costs.",
            alone_per_hour=60,
            accounts_for=_FEE,
        ),
        Kind(
            "double_spend",
            "Double spend",
            "⚔",
            Severity.critical,
            "Two unconfirmed transactions spend one coin, and each is held by a source that never held the other.",
            alone_per_hour=60,
        ),
        Kind(
            "whale",
            "Whale",
            "🐋",
            Severity.high,
            "A large value likely changed hands; the sender's change is left out.",
            alone_per_hour=40,
            accounts_for=_AMOUNT,
        ),
        Kind(
            "dormant_coins",
            "Old coins move",
            "🕰",
            Severity.high,
            "A large amount in coins that lay for five years or more moves, by their real age.",
            accounts_for=(*_AMOUNT, "input_age_max_blocks", "coin_days_destroyed", "input_legacy_share"),
        ),
        Kind(
            "dormant_round_move",
            "Dormant coins move",
            "🗝",
            Severity.high,
            "An exactly round, large amount left old-style coins whose addresses were silent in the last day.",
            accounts_for=(*_AMOUNT, "round_outputs", "input_legacy_share", "output_legacy_share"),
        ),
        Kind(
            "watch_listed",
            "Watch-listed address",
            "👁",
            Severity.high,
            "An address of the watch list is spent from or paid to.",
            alone_per_hour=60,
        ),
        Kind(
            "package_fee",
            "Very high fee",
            "🔥",
            Severity.medium,
            "A fee far above what space costs, which may pay for unconfirmed parents that cannot be told.",
            accounts_for=_FEE,
        ),
        Kind(
            "replacement_redirected",
            "Replacement pays someone else",
            "↪",
            Severity.medium,
            "It replaces an unconfirmed transaction, and does not pay whom that one likely paid.",
            alone_per_hour=12,
        ),
        Kind(
            "dust_storm",
            "Dust storm",
            "🌫",
            Severity.medium,
            "The same dust to many addresses that did not ask for it. One alert for the whole storm.",
            alone_per_hour=6,
            one_alert_within=timedelta(minutes=30),
            accounts_for=(*_MANY_OUTPUTS, "dust_outputs"),
        ),
        Kind(
            "forest",
            "Unusual transaction",
            "❓",
            Severity.medium,
            "Unlike the traffic around it, in the ways that its reasons name. Within the budget; one for all alike.",
            alone_per_hour=24,
            one_alert_within=timedelta(hours=1),
        ),
        Kind(
            "huge_consolidation",
            "Huge consolidation",
            "🧹",
            Severity.low,
            "Thousands of coins were merged into one output: rare, and usually a service that tidies up.",
            alone_per_hour=12,
            accounts_for=(*_MANY_INPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "sample",
            "Not alerted",
            "🎲",
            Severity.low,
            "Drawn by hash from what nearly alerted, as many a day as you set, to learn what is missed.",
            alone_per_hour=50,
            is_news=False,
        ),
        Kind(
            "coinjoin",
            "Coinjoin",
            "🌀",
            Severity.low,
            "Several owners likely mixed coins: equal outputs to as many owners. A tag; alerts only by choice.",
            alerts=False,
            accounts_for=(*_MANY_INPUTS, *_MANY_OUTPUTS, *_AMOUNT),
        ),
        Kind(
            "whirlpool",
            "Whirlpool round",
            "🌀",
            Severity.low,
            "A coinjoin as Whirlpool makes them: some coins of a pool's amount again, and some new ones.",
            alerts=False,
        ),
        Kind(
            "whirlpool_tx0",
            "Whirlpool Tx0",
            "✂",
            Severity.low,
            "One owner cut coins for a Whirlpool pool and paid its coordinator: rounds follow.",
            alerts=False,
            accounts_for=(*_MANY_INPUTS, *_MANY_OUTPUTS, *_AMOUNT, "op_return_outputs"),
        ),
        Kind(
            "wasabi_2",
            "Wasabi 2 round",
            "🌀",
            Severity.low,
            "A coinjoin as Wasabi 2 makes them, nearly all in its standard amounts.",
            alerts=False,
        ),
        Kind(
            "wasabi_1",
            "Wasabi 1 round",
            "🌀",
            Severity.low,
            "A coinjoin as Wasabi 1 makes them, of ten owners or more at one base amount.",
            alerts=False,
        ),
        Kind(
            "joinmarket",
            "JoinMarket round",
            "🌀",
            Severity.low,
            "A coinjoin as JoinMarket makes them, of equal outputs and a change for each owner.",
            alerts=False,
        ),
        Kind(
            "stonewall",
            "Stonewall",
            "🧱",
            Severity.low,
            "One wallet pays so that it resembles a coinjoin of two, or two owners do: which, nothing tells.",
            alerts=False,
            accounts_for=_MANY_OUTPUTS,
        ),
        Kind(
            "consolidation",
            "Consolidation",
            "🧹",
            Severity.low,
            "One owner merged many coins. Nothing likely changed hands.",
            alerts=False,
            accounts_for=(*_MANY_INPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "batch_payout",
            "Batch payout",
            "📤",
            Severity.low,
            "One owner paid many others at once, as exchanges do.",
            alerts=False,
            accounts_for=(*_MANY_OUTPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "package",
            "Package",
            "📦",
            Severity.low,
            "Its fee is that of a package: a child pays for it, or it pays for its unconfirmed parents.",
            alerts=False,
            accounts_for=_FEE,
        ),
        Kind(
            "internal_move",
            "Internal move",
            "🔁",
            Severity.low,
            "By labels, all of it stays with the entity that it came from: its amount is nothing to tell.",
            alerts=False,
            accounts_for=(*_MANY_INPUTS, *_MANY_OUTPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
            silences=("whale", "dormant_coins", "dormant_round_move", "huge_consolidation"),
        ),
        Kind(
            "exchange_in",
            "Into an exchange",
            "🏦",
            Severity.low,
            "By labels, an exchange receives a large part of a large move.",
            alerts=False,
        ),
        Kind(
            "exchange_out",
            "Out of an exchange",
            "🏦",
            Severity.low,
            "By labels, a large move out of an exchange.",
            alerts=False,
        ),
        Kind(
            "exchange_to_exchange",
            "Between exchanges",
            "🏦",
            Severity.low,
            "By labels, a large move from one exchange to another.",
            alerts=False,
        ),
        Kind(
            "arrival_burst",
            "Burst of arrivals",
            "🌊",
            Severity.medium,
            "Far more transactions arrive than on the day before. One alert while it lasts, with its end.",
            alone_per_hour=6,
        ),
        Kind(
            "fee_rate_jump",
            "Fee rates jump",
            "⛽",
            Severity.medium,
            "What half of the transactions pay for space is far above the day before. One alert while it lasts.",
            alone_per_hour=6,
        ),
        Kind(
            "no_block",
            "No block",
            "⏳",
            Severity.medium,
            "No source told of a block for an hour, and none can have been missed. One alert until the next block.",
            alone_per_hour=6,
        ),
        Kind(
            "pattern_flood",
            "Flood of one pattern",
            "🧬",
            Severity.medium,
            "Transactions alike in counts and first output are a large part of all, and were not before.",
            alone_per_hour=6,
        ),
        Kind("system", "System", "🛠", Severity.high, "Something is wrong with txwatch itself."),
        Kind("recovered", "Recovered", "✅", Severity.low, "What was wrong with txwatch is well again."),
    )
}


def raising(kinds: Iterable[str]) -> set[str]:
    """Those of the kinds found in one transaction that alert. A kind that is not in the table does."""
    found = set(kinds)
    silenced = {name for kind in found if kind in KINDS for name in KINDS[kind].silences}
    return {kind for kind in found - silenced if kind not in KINDS or KINDS[kind].alerts}


def alerting(reasons: Iterable[Reason]) -> bool:
    """Whether any of these reasons, which are all of one transaction, alerts."""
    return bool(raising(reason.kind for reason in reasons))
