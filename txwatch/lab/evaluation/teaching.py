"""Teach a trained model what people answered, and keep that only if it is better for it.

Otherwise the model stays as it was trained: answers that mislead cost a night's lesson, and never a night's model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from txwatch.detection.answers import MIN_ANSWERS
from txwatch.detection.gate import GateCheck, judge_answers, passes
from txwatch.detection.training import TrainedModel, teach
from txwatch.features.batch import Floats, WindowFeatures
from txwatch.lab.evaluation.examination import JudgedAlerts, examine


@dataclass(frozen=True)
class Lesson:
    """The model to go on with, taught or as it was, and in words what became of the answers."""

    trained: TrainedModel
    outcome: str
    checks: Sequence[GateCheck] = ()


def teach_if_better(
    trained: TrainedModel,
    features: Floats,
    judged: JudgedAlerts,
    held_out: list[WindowFeatures],
    *,
    whale_btc: float,
) -> Lesson:
    """Learn from the answers that may be learnt from, and judge by the others and by planted anomalies.

    `features` are those that it was trained on, `held_out` windows that it was not.
    """
    answers = judged.answers
    if len(answers) < MIN_ANSWERS:
        return Lesson(trained, f"{len(answers)} answers: it learns from {MIN_ANSWERS} on")
    if not held_out:
        return Lesson(trained, "no window since its training has features, so nothing to judge a lesson on")
    learnt_from, kept = answers.split()
    taught = teach(trained, features, learnt_from, whale_btc=whale_btc)
    models = [taught.model("taught"), trained.model("untaught")]
    checks = judge_answers(*examine(models, held_out, whale_btc=whale_btc, judged=judged))
    if passes(checks):
        return Lesson(taught, f"learnt from {len(learnt_from)} answers, judged by {len(kept)} others", checks)
    reasons = "; ".join(check.reason for check in checks if not check.passed)
    return Lesson(trained, f"nothing learnt from {len(learnt_from)} answers: {reasons}", checks)
