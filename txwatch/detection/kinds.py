"""What each kind of finding means: whether it only tags a transaction or alerts, how severe it is, and what it claims.

The one table of it. Detectors, alerts, the gate and `docs/models.md` all follow from this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from txwatch.detection.reasons import Reason

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""The most severe first."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding. Without `alerts` it is a tag: shown beside the transaction, and nobody is told.

    With `one_alert_within`, findings of this kind that follow each other by less than that are one event: the first
    alerts, the others belong to it. `budgeted` kinds alert as often as TXWATCH_ALERTS_PER_HOUR allows.
    """

    name: str
    severity: Severity
    alerts: bool
    claim: str
    one_alert_within: timedelta | None = None
    budgeted: bool = False


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "fee_accident",
            "critical",
            alerts=True,
            claim="A fee that nobody pays on purpose: large in itself, and far above what space costs.",
        ),
        Kind(
            "whale", "high", alerts=True, claim="A large value likely changed hands; the sender's change is left out."
        ),
        Kind(
            "dormant_round_move",
            "high",
            alerts=True,
            claim="An exactly round, large amount left old-style coins whose addresses were silent in the last day.",
        ),
        Kind("watch_listed", "high", alerts=True, claim="An address of the watch list is spent from or paid to."),
        Kind(
            "dust_storm",
            "medium",
            alerts=True,
            claim="The same dust to many addresses that did not ask for it. One alert for the whole storm.",
            one_alert_within=timedelta(minutes=30),
        ),
        Kind(
            "forest",
            "medium",
            alerts=True,
            claim="Unlike the traffic around it, in the ways that its reasons name. Within the alert budget.",
            budgeted=True,
        ),
        Kind(
            "huge_consolidation",
            "low",
            alerts=True,
            claim="Thousands of coins were merged into one output: rare, and usually a service that tidies up.",
        ),
        Kind(
            "coinjoin",
            "low",
            alerts=False,
            claim="Several owners likely mixed coins: equal outputs to as many owners. A tag; alerts only by choice.",
        ),
        Kind("consolidation", "low", alerts=False, claim="One owner merged many coins. Nothing likely changed hands."),
        Kind("batch_payout", "low", alerts=False, claim="One owner paid many others at once, as exchanges do."),
    )
}


def alerting(reasons: Iterable[Reason]) -> bool:
    """Whether any of these reasons is of a kind that alerts. A kind that is not in the table does."""
    return any(reason.kind not in KINDS or KINDS[reason.kind].alerts for reason in reasons)


def severity(reasons: Iterable[Reason]) -> Severity:
    """The highest severity among the alerting kinds of these reasons; `low` when none alerts."""
    found = {KINDS[r.kind].severity for r in reasons if r.kind in KINDS and KINDS[r.kind].alerts}
    return next((s for s in SEVERITIES if s in found), "low")
