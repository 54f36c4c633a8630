"""What is unusual beside what was found: the forest's score without the features that a finding accounts for.

To a forest a coinjoin of sixty owners is the most unusual thing of its hour; to a reader it is a tag, as is an
exchange's payout to a thousand customers. Each kind names the features that it accounts for (`kinds.py`). Where such a
kind was found, they are put back to their medians, and only what is left counts towards the threshold.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from txwatch.detection.kinds import KINDS
from txwatch.detection.rules import default_detectors
from txwatch.features.batch import Flags, Floats
from txwatch.features.contract import FEATURE_NAMES

_FEATURES_OF = {name: np.isin(FEATURE_NAMES, kind.accounts_for) for name, kind in KINDS.items()}


def accounted_for(found: Mapping[int, Iterable[str]], n: int) -> Flags:
    """Which features of which of n rows are accounted for, given the kinds found in rows. Shape (n, features)."""
    flags = np.zeros((n, len(FEATURE_NAMES)), np.bool_)
    for row, kinds in found.items():
        for kind in kinds:
            flags[row] |= _FEATURES_OF[kind]
    return flags


def without(features: Floats, accounted: Flags, medians: Floats) -> Floats:
    """The features with what is accounted for at its median."""
    return np.where(accounted, medians, features)


def remaining_scores(
    score: Callable[[Floats], Floats], features: Floats, accounted: Flags, medians: Floats, factors: Floats
) -> Floats:
    """The score of each row beside what is accounted for, times its factor (`patterns.worth`).

    `score` gives plain scores; what is accounted for never raises one.
    """
    scores = score(features).copy()
    rows = np.flatnonzero(accounted.any(axis=1))
    if len(rows):
        left = score(without(features[rows], accounted[rows], medians))
        scores[rows] = np.minimum(scores[rows], left)
    return scores * factors


def likely_findings(features: Floats, *, whale_btc: float) -> Flags:
    """What is accounted for, by features alone: for training. Shape (n, features).

    It agrees with what detectors find on all but a few rows in a thousand.
    """
    flags = np.zeros(features.shape, np.bool_)
    for detector in default_detectors(whale_btc=whale_btc):
        flags |= detector.likely(features)[:, None] & _FEATURES_OF[detector.kinds[0]]
    return flags
