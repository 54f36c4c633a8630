"""The figures that every label is given, for the model and for the baseline alike."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from txwatch.evaluation.metrics import auc, average_precision, recall_at

Floats = NDArray[np.float64]

ONE_PERCENT = 0.01


def figures(background: Floats, positives: Floats, budget_rate: float) -> dict[str, Any]:
    """What scores are worth. `budget_rate` is the false-positive rate that the alert budget allows."""
    return {
        "n": len(positives),
        "auc": auc(background, positives),
        "average_precision": average_precision(background, positives),
        "recall_at_1pct_fpr": recall_at(background, positives, ONE_PERCENT),
        "recall_at_budget_fpr": recall_at(background, positives, budget_rate),
    }


def compared(
    scores: Floats, baseline: Floats, labels: list[str | None], background: NDArray[np.bool_], budget_rate: float
) -> dict[str, Any]:
    """The figures of each label beside the baseline's. All arrays have shape (n,)."""
    known = np.array([label or "" for label in labels])
    result = {}
    for label in sorted(set(known[~background].tolist()) - {""}):
        rows = known == label
        result[label] = figures(scores[background], scores[rows], budget_rate) | {
            "baseline": figures(baseline[background], baseline[rows], budget_rate)
        }
    return result
