"""Figures of merit of scores against known truth. Higher scores mean more unusual; a positive is what must be found.

Accuracy is not among them: with one positive in a thousand, finding nothing is 99.9 % accurate.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auc(background: Floats, positives: Floats) -> float:
    """The chance that a positive scores above a background transaction, ties counted half (Mann-Whitney U)."""
    ordered = np.sort(background)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.sum() / (2 * len(background) * len(positives)))


def average_precision(background: Floats, positives: Floats) -> float:
    """The mean over the positives of the precision at each one's score; ties count as found together.

    It depends on how many positives there are for each background transaction: compare it on the same data only.
    """
    as_high = np.searchsorted(np.sort(positives), positives, "left")
    found = len(positives) - as_high
    false = len(background) - np.searchsorted(np.sort(background), positives, "left")
    return float((found / (found + false)).mean())


def threshold_at(background: Floats, false_positive_rate: float) -> float:
    """The lowest threshold above which at most this share of the background lies. A score must exceed it."""
    allowed = int(false_positive_rate * len(background))
    return float(np.partition(background, len(background) - 1 - allowed)[len(background) - 1 - allowed])


def recall_at(background: Floats, positives: Floats, false_positive_rate: float) -> float:
    """The share of positives found at the threshold that lets at most this share of the background through."""
    return float((positives > threshold_at(background, false_positive_rate)).mean())
