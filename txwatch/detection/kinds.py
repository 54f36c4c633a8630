"""What each kind of finding means: whether it only tags a transaction or alerts, how severe it is, and what it claims.

The one table of it. Detectors, alerts, the gate and `docs/models.md` all follow from this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from txwatch.detection.reasons import Reason
from txwatch.features.contract import FEATURES

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""The most severe first."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding. Without `alerts` it is a tag: shown beside the transaction, and nobody is told.

    With `one_alert_within`, findings of this kind that follow each other by less than that are one event: the first
    alerts, the others belong to it.

    `silences` names kinds that do not alert where this one was found as well: it says that they are nothing to tell.

    `accounts_for` names the features that such a transaction must show: they are no news to the forest any more, which
    then says what is unusual beside them.
    """

    name: str
    severity: Severity
    alerts: bool
    claim: str
    one_alert_within: timedelta | None = None
    accounts_for: tuple[str, ...] = ()
    silences: tuple[str, ...] = ()


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
            "critical",
            alerts=True,
            claim="A fee that nobody pays on purpose: large in itself, and far above what space costs.",
            accounts_for=_FEE,
        ),
        Kind(
            "whale",
            "high",
            alerts=True,
            claim="A large value likely changed hands; the sender's change is left out.",
            accounts_for=_AMOUNT,
        ),
        Kind(
            "dormant_round_move",
            "high",
            alerts=True,
            claim="An exactly round, large amount left old-style coins whose addresses were silent in the last day.",
            accounts_for=(*_AMOUNT, "round_outputs", "input_legacy_share", "output_legacy_share"),
        ),
        Kind("watch_listed", "high", alerts=True, claim="An address of the watch list is spent from or paid to."),
        Kind(
            "package_fee",
            "medium",
            alerts=True,
            claim="A fee far above what space costs, which may pay for unconfirmed parents that cannot be told.",
            accounts_for=_FEE,
        ),
        Kind(
            "dust_storm",
            "medium",
            alerts=True,
            claim="The same dust to many addresses that did not ask for it. One alert for the whole storm.",
            one_alert_within=timedelta(minutes=30),
            accounts_for=(*_MANY_OUTPUTS, "dust_outputs"),
        ),
        Kind(
            "forest",
            "medium",
            alerts=True,
            claim="Unlike the traffic around it, in the ways that its reasons name. Within the alert budget.",
        ),
        Kind(
            "huge_consolidation",
            "low",
            alerts=True,
            claim="Thousands of coins were merged into one output: rare, and usually a service that tidies up.",
            accounts_for=(*_MANY_INPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "coinjoin",
            "low",
            alerts=False,
            claim="Several owners likely mixed coins: equal outputs to as many owners. A tag; alerts only by choice.",
            accounts_for=(*_MANY_INPUTS, *_MANY_OUTPUTS, *_AMOUNT),
        ),
        Kind(
            "consolidation",
            "low",
            alerts=False,
            claim="One owner merged many coins. Nothing likely changed hands.",
            accounts_for=(*_MANY_INPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "batch_payout",
            "low",
            alerts=False,
            claim="One owner paid many others at once, as exchanges do.",
            accounts_for=(*_MANY_OUTPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
        ),
        Kind(
            "internal_move",
            "low",
            alerts=False,
            claim="By labels, all of it stays with the entity that it came from: its amount is nothing to tell.",
            accounts_for=(*_MANY_INPUTS, *_MANY_OUTPUTS, *_AMOUNT, *_BUSY_ADDRESSES),
            silences=("whale", "dormant_round_move", "huge_consolidation"),
        ),
        Kind("exchange_in", "low", alerts=False, claim="By labels, an exchange receives a large part of a large move."),
        Kind("exchange_out", "low", alerts=False, claim="By labels, a large move out of an exchange."),
        Kind(
            "exchange_to_exchange", "low", alerts=False, claim="By labels, a large move from one exchange to another."
        ),
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


def severity(reasons: Iterable[Reason]) -> Severity:
    """The highest severity among the alerting kinds of these reasons; `low` when none alerts."""
    found = {KINDS[kind].severity for kind in raising(reason.kind for reason in reasons) if kind in KINDS}
    return next((s for s in SEVERITIES if s in found), "low")
