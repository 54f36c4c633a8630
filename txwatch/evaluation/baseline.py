"""What the models here are measured against: the recipe of the program that this one replaces.

Its features were four raw numbers of the message: total output in BTC, `tx["fee"]`, inputs and outputs. The feed has no
field `fee`, so the second was 0 for every transaction. They went through a StandardScaler into an Isolation Forest with
scikit-learn's defaults.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.reasons import SAT
from txwatch.wire.transaction import Transaction

SEED = 42


def baseline_features(transactions: Sequence[Transaction]) -> NDArray[np.float64]:
    """Shape (n, 4): total output in BTC, the fee that the feed does not have, inputs, outputs."""
    rows = [(tx.value_sat / SAT, 0.0, tx.input_count, tx.output_count) for tx in transactions]
    return np.array(rows, np.float64).reshape(len(rows), 4)


class Baseline:
    """The recipe, fitted."""

    def __init__(self, train: Sequence[Transaction]) -> None:
        from sklearn.ensemble import IsolationForest
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._pipeline = make_pipeline(StandardScaler(), IsolationForest(random_state=SEED))
        self._pipeline.fit(baseline_features(train))

    def score(self, transactions: Sequence[Transaction]) -> NDArray[np.float64]:
        """Higher is more unusual."""
        scores: NDArray[np.float64] = -self._pipeline.score_samples(baseline_features(transactions))
        return scores
