"""The gate before promotion: checks of a challenger on traffic that it was not trained on.

The checks are pure functions of the results of models (`txwatch.lab.evaluation.examination` makes them). The UI shows
each as an asset check, with the reason when it failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.known_cases import Verdict
from txwatch.detection.training import top_agreement

MAX_TIMES_BUDGET = 3.0
MIN_SEED_AGREEMENT = 0.8
MIN_COINJOIN_RECALL = 0.6
MAX_LOSS = 0.1
MAX_TAUGHT_LOSS = 0.02
MIN_AGREEMENT = 0.05
MIN_JUDGED = 10
CHANCE = 2.33
"""Standard errors: what happens by chance once in a hundred times."""

CHECKS: Mapping[str, str] = {
    "golden_incidents_found": "Every golden incident is found, for the right reason first.",
    "look_alikes_stay_silent": "No benign look-alike of an incident alerts.",
    "alert_rate_within_budget": f"On held-out traffic it raises at most {MAX_TIMES_BUDGET:g} times its alert budget, or"
    " no more than the champion does. A first model is not refused for it.",
    "stable_between_seeds": "Models of two seeds agree on the most unusual hundredth: a Jaccard index of at least"
    f" {MIN_SEED_AGREEMENT:g}, but for chance.",
    "finds_planted_coinjoins": f"The scores alone find {MIN_COINJOIN_RECALL:.0%} of planted coinjoins at the budget's"
    " rate of false positives, or at 0.2 or 1 % where too few held-out rows decide.",
    "not_worse_than_champion": "At that rate it finds as many of the planted anomalies as the champion does, within"
    f" {MAX_LOSS:g} of recall on average.",
    "agrees_with_champion": "Both agree on some of the most unusual hundredth of held-out traffic: a Jaccard index of"
    f" at least {MIN_AGREEMENT:g}, ten times that of chance.",
    "follows_the_feedback": "Of the alerts that people judged, it raises useful ones at least as often as noise, but"
    f" for chance. Asked from {MIN_JUDGED} of each on.",
}


@dataclass(frozen=True)
class Feedback:
    """Of transactions whose alerts people judged useful or noise, how many there are, and how many the model finds."""

    useful: int = 0
    useful_found: int = 0
    noise: int = 0
    noise_found: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """For the record."""
        return {f"judged_{name}": float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class GateCheck:
    """One check of the gate, with the figures it was decided on, and the reason in words if it failed."""

    name: str
    passed: bool
    figures: dict[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class ModelResult:
    """One model on held-out windows. Models that are compared have the same windows."""

    version: str
    hours: float
    scores: NDArray[np.float64]
    """Plain, of each held-out transaction, in one order for all models."""
    alerts: int
    """That the forest raises of held-out transactions, one for each campaign."""
    alerts_per_hour: float
    """The budget."""
    seed_agreement: float
    agreement_rows: int
    """Of training, a hundredth of which was compared."""
    incidents: Sequence[Verdict]
    look_alikes: Sequence[Verdict]
    auc: Mapping[str, float]
    """Of each planted kind, against the held-out traffic without what rules find in it. Shown, and decides nothing."""
    recall: Mapping[str, float]
    """Of each of them, at `rate`. Of kinds that only tag it is that of the voices alone: people may call them noise."""
    rate: float
    """Of false positives: the budget's, or the next of 0.2 % and 1 % at which enough held-out rows decide."""
    feedback: Feedback = Feedback()
    unseen_agreement: float | None = None
    """With answers that no model learns from: of a useful alert and noise, how often the useful one scores higher."""

    @property
    def figures(self) -> dict[str, float]:
        """For the record."""
        return {
            "transactions": float(len(self.scores)),
            "alerts": float(self.alerts),
            "alerts_per_hour": self.alerts / self.hours if self.hours else 0.0,
            "seed_agreement": self.seed_agreement,
            **{f"auc_{kind}": value for kind, value in self.auc.items()},
            "false_positive_rate": self.rate,
            **{f"recall_{kind}": value for kind, value in self.recall.items()},
            **self.feedback.figures,
            **({} if self.unseen_agreement is None else {"unseen_agreement": self.unseen_agreement}),
        }


def judge(challenger: ModelResult, champion: ModelResult | None) -> list[GateCheck]:
    """The checks in the order of CHECKS. Without a champion those that compare pass."""
    coinjoins = challenger.recall.get("coinjoin", 0.0)
    return [
        _verdicts("golden_incidents_found", challenger.incidents),
        _verdicts("look_alikes_stay_silent", challenger.look_alikes),
        _alert_rate(challenger, champion),
        _stable(challenger),
        _at_least("finds_planted_coinjoins", coinjoins, MIN_COINJOIN_RECALL, "recall of planted coinjoins"),
        _not_worse(challenger, champion),
        _agreement(challenger, champion),
        _follows(challenger.feedback),
    ]


def judge_answers(taught: ModelResult, untaught: ModelResult) -> list[GateCheck]:
    """Whether a model is better for what it learnt from people's answers than the same model without that.

    Answers may be wrong, or hostile: what they say of unseen answers is believed only if nothing planted is lost.
    """
    return [_better(taught, untaught), _nothing_lost(taught, untaught)]


def _better(taught: ModelResult, untaught: ModelResult) -> GateCheck:
    name = "better_on_unseen_answers"
    after, before = taught.unseen_agreement, untaught.unseen_agreement
    if after is None or before is None:
        return GateCheck(name, False, {}, "there is no useful alert beside noise among the answers kept to judge it by")
    reason = (
        f"with what it learnt {after:.0%} of unseen pairs of useful alert and noise are in order, {before:.0%} without"
    )
    return _check(name, after > before, {"agreement": after, "agreement_before": before}, reason)


def _nothing_lost(taught: ModelResult, untaught: ModelResult) -> GateCheck:
    losses = {kind: found - taught.recall.get(kind, 0.0) for kind, found in untaught.recall.items()}
    largest, worst = max(((loss, kind) for kind, loss in losses.items()), default=(0.0, ""))
    reason = f"for what it learnt recall of planted {worst} is {largest:.3f} lower"
    return _check("loses_nothing_planted", largest <= MAX_TAUGHT_LOSS, {"largest_loss": largest}, reason)


def passes(checks: Sequence[GateCheck]) -> bool:
    """Whether a challenger may be promoted."""
    return all(check.passed for check in checks)


def _verdicts(name: str, verdicts: Sequence[Verdict]) -> GateCheck:
    wrong = [verdict for verdict in verdicts if not verdict.right]
    reason = "; ".join(f"{v.case.name}: expected {v.case.expected or 'silence'}, got {v.first}" for v in wrong)
    return GateCheck(name, not wrong, {"cases": float(len(verdicts)), "wrong": float(len(wrong))}, reason)


def _alert_rate(challenger: ModelResult, champion: ModelResult | None) -> GateCheck:
    """Unusual traffic is no fault of the challenger's: the champion alerts on it as well.

    Without a champion nothing is scored, which is worse than an hour of too many alerts: the threshold follows them.
    """
    expected = challenger.alerts_per_hour * challenger.hours
    # One alert more than the bound is no evidence when hardly one is expected.
    allowed = max(MAX_TIMES_BUDGET * expected, expected + 3 * np.sqrt(expected) + 3)
    passed = champion is None or bool(challenger.alerts <= max(allowed, champion.alerts))
    figures = {"transactions": float(len(challenger.scores)), "alerts": float(challenger.alerts), "expected": expected}
    reason = f"{challenger.alerts} alerts on held-out traffic, {expected:.1f} by the budget"
    return _check("alert_rate_within_budget", passed, figures, reason)


def _check(name: str, passed: bool, figures: dict[str, float], reason: str) -> GateCheck:
    return GateCheck(name, passed, figures, "" if passed else reason)


def _at_least(name: str, value: float, bound: float, what: str) -> GateCheck:
    return _check(name, value >= bound, {"value": value, "bound": bound}, f"{what} is {value:.2f}")


def _stable(challenger: ModelResult) -> GateCheck:
    """By the normal approximation to a share of so many rows."""
    compared = max(1, challenger.agreement_rows // 100)
    bound = MIN_SEED_AGREEMENT - CHANCE * float(np.sqrt(MIN_SEED_AGREEMENT * (1 - MIN_SEED_AGREEMENT) / compared))
    return _at_least("stable_between_seeds", challenger.seed_agreement, bound, "agreement of two seeds")


def _not_worse(challenger: ModelResult, champion: ModelResult | None) -> GateCheck:
    name = "not_worse_than_champion"
    if champion is None:
        return GateCheck(name, True)
    losses = {kind: found - challenger.recall.get(kind, 0.0) for kind, found in champion.recall.items()}
    mean = float(np.mean(list(losses.values()))) if losses else 0.0
    largest, worst = max(((loss, kind) for kind, loss in losses.items()), default=(0.0, ""))
    reason = f"recall is {mean:.3f} below the champion's on average, most for {worst} ({largest:.3f})"
    return _check(name, mean <= MAX_LOSS, {"mean_loss": mean, "largest_loss": largest}, reason)


def _agreement(challenger: ModelResult, champion: ModelResult | None) -> GateCheck:
    name = "agrees_with_champion"
    if champion is None:
        return GateCheck(name, True)
    agreement = top_agreement(challenger.scores, champion.scores)
    return _at_least(name, agreement, MIN_AGREEMENT, "agreement with the champion")


def _follows(feedback: Feedback) -> GateCheck:
    """Compare the shares of useful alerts and of noise that it finds, by the normal approximation to their difference.

    People judged what earlier champions alerted on: to find less of it is no fault, to prefer noise is.
    """
    name = "follows_the_feedback"
    if min(feedback.useful, feedback.noise) < MIN_JUDGED:
        return GateCheck(name, True, feedback.figures)
    useful, noise = feedback.useful_found / feedback.useful, feedback.noise_found / feedback.noise
    both = (feedback.useful_found + feedback.noise_found) / (feedback.useful + feedback.noise)
    error = float(np.sqrt(both * (1 - both) * (1 / feedback.useful + 1 / feedback.noise)))
    reason = f"it finds {noise:.0%} of what people called noise, and {useful:.0%} of what they called useful"
    return _check(name, noise - useful <= CHANCE * error, feedback.figures, reason)
