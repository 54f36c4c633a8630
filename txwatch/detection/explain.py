"""Which features made a transaction unusual: by putting them back to ordinary, one after the other.

Greedy occlusion: of all features the one is taken whose return to its median of training lowers the score most, then,
with that one back, the next. A reason found so is faithful by construction: without it, the score falls.
"""

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.model import Model
from txwatch.detection.reasons import Reason, feature_reason
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
