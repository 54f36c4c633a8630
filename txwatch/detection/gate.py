"""The gate before promotion: what a challenger must show on traffic that it was not trained on.

Belongs here: the checks, as pure functions of scores. Each has a name that the UI shows as an asset check.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.model import Model

MAX_TIMES_BUDGET = 3.0
MIN_SPREAD = 0.05

CHECKS = {
    "alert_rate_within_budget": f"On recent traffic it raises at most {MAX_TIMES_BUDGET:g} times its budget of alerts.",
    "scores_tell_apart": "The most unusual transactions stand clear of the median; a model of a constant does not.",
}


@dataclass(frozen=True)
class GateCheck:
    """One check of the gate, with the figures it was decided on."""

    name: str
    passed: bool
    figures: dict[str, float] = field(default_factory=dict)


def judge(challenger: Model, features: NDArray[np.float64]) -> list[GateCheck]:
    """Judge a challenger on recent features of shape (n, len(FEATURE_NAMES)), the checks in the order of CHECKS."""
    scores = challenger.score(features)
    return [_alert_rate(challenger, scores), _spread(scores)]


def passes(checks: Sequence[GateCheck]) -> bool:
    """Whether a challenger may be promoted."""
    return all(check.passed for check in checks)


def _alert_rate(challenger: Model, scores: NDArray[np.float64]) -> GateCheck:
    card = challenger.card
    expected = len(scores) * card.alerts_per_hour / card.transactions_per_hour
    alerts = int((scores >= challenger.threshold).sum())
    # One alert more than the bound is no evidence when hardly one is expected.
    passed = alerts <= max(MAX_TIMES_BUDGET * expected, expected + 3 * np.sqrt(expected) + 3)
    figures = {"transactions": float(len(scores)), "alerts": float(alerts), "expected": float(expected)}
    return GateCheck("alert_rate_within_budget", bool(passed), figures)


def _spread(scores: NDArray[np.float64]) -> GateCheck:
    spread = float(np.quantile(scores, 0.999) - np.median(scores)) if len(scores) else 0.0
    return GateCheck("scores_tell_apart", spread >= MIN_SPREAD, {"spread": spread})
