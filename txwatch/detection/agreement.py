"""How far two models agree on what is most unusual."""

import numpy as np
from numpy.typing import NDArray

TOP_SHARE = 0.01


def top_agreement(a: NDArray[np.float64], b: NDArray[np.float64], share: float = TOP_SHARE) -> float:
    """The Jaccard index of the highest-scoring share by two scores of the same rows; 1 without rows."""
    count = max(1, int(share * len(a)))
    if not len(a):
        return 1.0
    top_a, top_b = (set(np.argpartition(-scores, count - 1)[:count].tolist()) for scores in (a, b))
    return len(top_a & top_b) / len(top_a | top_b)
