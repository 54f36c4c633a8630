"""Explain a score: which features raise it most, and the way to it from an ordinary one.

Of a score that is the forest's: greedy occlusion, the feature whose return to its median of training lowers the score
most, then, with that one back, the next. Of one that is the neighbours': each feature's part of the squared distance to
the nearest rows, which is exact, and adds up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from txwatch.detection.accounting import accounted_for, without
from txwatch.detection.detector import Detector
from txwatch.detection.model import Model
from txwatch.detection.patterns import is_material, patterns_of
from txwatch.detection.reasons import Reason, feature_reason
from txwatch.detection.rules import find_all
from txwatch.detection.threshold import RecentScores, arrivals_per_hour
from txwatch.detection.voices import combined
from txwatch.features.batch import Floats, WindowFeatures
from txwatch.features.contract import FEATURE_NAMES

TOP = 3
"""Reasons of an alert."""
STEPS = 6
"""Steps of a waterfall."""


@dataclass(frozen=True)
class Step:
    """One feature. `lowers` is its part of the score; `ordinary` is its median of training.

    Of the forest's score it is by how much the score falls with the feature, and those before it, at their medians.
    """

    feature: str
    value: float
    ordinary: float
    percentile: float
    lowers: float


def explain(model: Model, features: Floats) -> list[list[Reason]]:
    """For each row of shape (n, len(FEATURE_NAMES)) up to TOP reasons, strongest first. NaN is none.

    A feature that a finding accounts for is given at its median (`accounting.without`), and so is none either.
    """
    steps_of, _ = take_apart(model, features, TOP)
    return [[feature_reason(step.feature, step.value, step.percentile) for step in steps] for steps in steps_of]


def take_apart(model: Model, features: Floats, most: int) -> tuple[list[list[Step]], Floats]:
    """For each row of shape (n, len(FEATURE_NAMES)) up to `most` steps, strongest first, and the score that is left."""
    forest, neighbours = model.log_shares(features)
    by_neighbours = neighbours <= forest
    steps: list[list[Step]] = [[] for _ in features]
    left = model.score(features)
    for rows, apart in ((np.flatnonzero(by_neighbours), _share_out), (np.flatnonzero(~by_neighbours), _occlude)):
        if len(rows):
            found, rest = apart(model, features[rows], most)
            for row, own in zip(rows.tolist(), found, strict=True):
                steps[row] = own
            left[rows] = rest
    return steps, left


def _share_out(model: Model, features: Floats, most: int) -> tuple[list[list[Step]], Floats]:
    """The known features by their parts of the distance to the nearest rows of training."""
    medians, used = np.array(model.card.medians), model.compact.used
    left = model.score(features)
    parts = left[:, None] * model.neighbours.shares(model.compact.rows(features))
    # What is unknown, or ordinary, is no reason; so is what a finding accounts for, which is at its median.
    parts[np.isnan(features[:, used]) | (features[:, used] == medians[used])] = 0.0
    steps: list[list[Step]] = [[] for _ in features]
    for row, order in enumerate(np.argsort(-parts, axis=1)[:, :most].tolist()):
        for place in order:
            feature, part = int(used[place]), float(parts[row, place])
            if part > 0:
                value, ordinary = float(features[row, feature]), float(medians[feature])
                percentile = model.percentile(feature, value)
                steps[row].append(Step(FEATURE_NAMES[feature], value, ordinary, percentile, part))
                left[row] -= part
    return steps, np.maximum(left, 0.0)


def _occlude(model: Model, features: Floats, most: int) -> tuple[list[list[Step]], Floats]:
    """The steps of greedy occlusion of the forest; they end where no known feature lowers its score any more."""
    medians, forest = np.array(model.card.medians), model.compact
    used, exponents = forest.used, model.exponents(features)

    def score(rows: Floats) -> Floats:
        shares = model.card.forest.log_share(forest.score(forest.rows(rows)))
        return combined((shares * np.repeat(exponents, len(rows) // len(exponents)))[None, :])

    current, left = features.copy(), score(features)
    steps: list[list[Step]] = [[] for _ in features]
    for _ in range(most):
        variants = np.repeat(current[:, None, :], len(used), axis=1)
        variants[:, np.arange(len(used)), used] = medians[used]
        lowered = score(variants.reshape(-1, features.shape[1])).reshape(len(features), len(used))
        lowered[np.isnan(features[:, used])] = np.inf
        best, lowest = lowered.argmin(axis=1), lowered.min(axis=1)
        for row in np.flatnonzero(lowest < left).tolist():
            feature = int(used[best[row]])
            value, ordinary = float(features[row, feature]), float(medians[feature])
            lowers = float(left[row]) - float(lowest[row])
            steps[row].append(Step(FEATURE_NAMES[feature], value, ordinary, model.percentile(feature, value), lowers))
            left[row], current[row, feature] = lowest[row], ordinary
    return steps, left


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
    material: bool
    """Whether it is of material value."""
    new_shape: bool
    """Whether it is of none, and its shape is new. The scores of what is neither count half, and so do the steps."""


def waterfall(
    window: WindowFeatures, model: Model, detectors: Sequence[Detector], recent: RecentScores | None = None
) -> Waterfall:
    """The steps of one transaction, whatever its score."""
    features, medians = window.features, np.array(model.card.medians)
    found = [reason.kind for reason in find_all(detectors, window.batch, features).get(0, [])]
    accounted = accounted_for({0: found}, 1)
    beside = without(features, accounted, medians)
    plain, remaining = model.score(np.vstack([features, beside])).tolist()
    if plain < remaining:  # what a finding accounts for never makes a transaction more unusual
        accounted, beside = np.zeros_like(accounted), features
    (steps,), (rest,) = take_apart(model, beside, STEPS)
    pattern = patterns_of(features, model.card.material_sat)
    factor = float(model.worth(pattern)[0])
    return Waterfall(
        model_version=model.version,
        score=factor * min(plain, remaining),
        threshold=model.threshold_at(arrivals_per_hour(window.context.network), recent),
        steps=[replace(step, lowers=factor * step.lowers) for step in steps],
        rest=factor * float(rest),
        found=found,
        accounted_for=np.array(FEATURE_NAMES)[accounted[0]].tolist(),
        material=bool(is_material(pattern)[0]),
        new_shape=factor == 1.0 and not is_material(pattern)[0],
    )
