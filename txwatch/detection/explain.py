"""Explain a score: which features raise it most, and the way to it from an ordinary one.

Greedy occlusion: of all features the one is taken whose return to its median of training lowers the score most, then,
with that one back, the next. A reason found so is faithful by construction: without it, the score falls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.accounting import accounted_for, without
from txwatch.detection.detectors import Detector, find_all
from txwatch.detection.model import Model
from txwatch.detection.reasons import Reason, feature_reason
from txwatch.detection.threshold import RecentScores, arrivals_per_hour
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import NetworkContext
from txwatch.features.contract import FEATURE_NAMES

TOP = 3


def explain(model: Model, features: NDArray[np.float64]) -> list[list[Reason]]:
    """For each row of shape (n, len(FEATURE_NAMES)) up to three reasons, strongest first. NaN is none.

    A feature that a finding accounts for is given at its median (`accounting.without`), and so is none either.
    """
    medians = np.array(model.card.medians)
    used = model.compact.used
    current = features.copy()
    score = model.score(current)
    reasons: list[list[Reason]] = [[] for _ in range(len(features))]
    for _ in range(TOP):
        lowered = _scores_without_each(model, current, medians, used)
        lowered[np.isnan(features[:, used])] = np.inf
        best = lowered.argmin(axis=1)
        for row, place in enumerate(best):
            if lowered[row, place] < score[row]:
                feature = int(used[place])
                value = float(features[row, feature])
                reasons[row].append(feature_reason(FEATURE_NAMES[feature], value, model.percentile(feature, value)))
                score[row] = lowered[row, place]
                current[row, feature] = medians[feature]
    return reasons


def _scores_without_each(
    model: Model, features: NDArray[np.float64], medians: NDArray[np.float64], used: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The score of each row with each one of the used features at its median, shape (n, used)."""
    n, width = len(features), len(used)
    variants = np.repeat(features, width, axis=0).reshape(n, width, features.shape[1])
    variants[:, np.arange(width), used] = medians[used]
    return model.score(variants.reshape(n * width, features.shape[1])).reshape(n, width)


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
    """From `score` down to `rest`, which the steps do not explain, strongest step first.

    `found` are the kinds that detectors found in it, `accounted_for` the features that these account for: they do not
    count in the score, and are no steps.
    """

    model_version: str
    score: float
    threshold: float
    steps: list[Step]
    rest: float
    found: list[str]
    accounted_for: list[str]


def waterfall(
    batch: TransactionBatch,
    features: NDArray[np.float64],
    network: NetworkContext,
    model: Model,
    detectors: Sequence[Detector],
    recent: RecentScores | None = None,
) -> Waterfall:
    """The steps of a batch's one transaction, its features of shape (len(FEATURE_NAMES),): occlusion, as in `explain`.

    It goes on below the threshold, and for ordinary transactions too, until no feature lowers the score any more.
    """
    medians = np.array(model.card.medians)
    found = [reason.kind for reason in find_all(detectors, batch, features[None, :]).get(0, [])]
    accounted = accounted_for({0: found}, 1)[0]
    beside = without(features, accounted, medians)
    plain, remaining = model.score(np.vstack([features, beside])).tolist()
    if plain < remaining:  # what a finding accounts for never makes a transaction more unusual
        accounted, beside = np.zeros_like(accounted), features
    steps, rest = _steps(model, beside, medians)
    return Waterfall(
        model_version=model.version,
        score=min(plain, remaining),
        threshold=model.threshold_at(arrivals_per_hour(network), recent),
        steps=steps,
        rest=rest,
        found=found,
        accounted_for=np.array(FEATURE_NAMES)[accounted].tolist(),
    )


def _steps(model: Model, features: NDArray[np.float64], medians: NDArray[np.float64]) -> tuple[list[Step], float]:
    """The steps down, and the score that is left below the last one."""
    current = features.copy()
    score = float(model.score(current[None, :])[0])
    steps: list[Step] = []
    width = np.arange(len(current))
    while len(steps) < STEPS:
        variants = np.repeat(current[None, :], len(current), axis=0)
        variants[width, width] = medians
        lowered = np.where(np.isnan(current), np.inf, model.score(variants))
        best = int(lowered.argmin())
        if not lowered[best] < score:
            break
        value, ordinary = float(features[best]), float(medians[best])
        lowers = score - float(lowered[best])
        steps.append(Step(FEATURE_NAMES[best], value, ordinary, model.percentile(best, value), lowers))
        score, current[best] = float(lowered[best]), ordinary
    return steps, score
