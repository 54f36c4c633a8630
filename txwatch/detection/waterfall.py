"""The way from an ordinary score to a transaction's own, feature by feature: what a page draws as a waterfall."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.model import Model
from txwatch.features.contract import FEATURE_NAMES

STEPS = 6


@dataclass(frozen=True)
class Step:
    """One feature put back to its median of training. `lowers` is by how much the score falls, with those before it."""

    feature: str
    value: float
    ordinary: float
    percentile: float
    lowers: float


@dataclass(frozen=True)
class Waterfall:
    """From `score` down to `rest`, which the steps do not explain, strongest step first."""

    model_version: str
    score: float
    threshold: float
    steps: list[Step]
    rest: float


def waterfall(model: Model, features: NDArray[np.float64]) -> Waterfall:
    """The steps of one transaction's features, of shape (len(FEATURE_NAMES),): greedy occlusion, as in `explain`.

    It goes on below the threshold, and for ordinary transactions too, until no feature lowers the score any more.
    """
    medians = np.array(model.card.medians)
    current = features.copy()
    whole = score = float(model.score(current[None, :])[0])
    steps: list[Step] = []
    width = np.arange(len(current))
    while len(steps) < STEPS:
        variants = np.repeat(current[None, :], len(current), axis=0)
        variants[width, width] = medians
        lowered = np.where(np.isnan(current), np.inf, model.score(variants))
        best = int(lowered.argmin())
        if not lowered[best] < score:
            break
        value = float(features[best])
        steps.append(
            Step(
                FEATURE_NAMES[best],
                value,
                float(medians[best]),
                model.percentile(best, value),
                score - float(lowered[best]),
            )
        )
        score, current[best] = float(lowered[best]), medians[best]
    return Waterfall(model.version, whole, model.threshold, steps, score)
