"""The model: unknown values to the median, logarithms where amounts span decades, scaling, Isolation Forest."""

from typing import TYPE_CHECKING

from txwatch.features.contract import FEATURES

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

TREES = 1_000
"""Enough that two seeds agree on what is most unusual: the top 1 % of ten seeds overlap to 0.9 (Jaccard) or more. With
200 it is 0.83, for a fifth of the time and space (docs/models.md has the table)."""
SAMPLES_PER_TREE = 1_024
"""Enough that a pattern of one in a thousand reaches most trees, and few enough that its members isolate quickly."""


def build_forest(seed: int, *, trees: int = TREES, samples: int = SAMPLES_PER_TREE) -> "Pipeline":
    """An unfitted scikit-learn pipeline over the feature contract. Deterministic for a seed."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import IsolationForest
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    logarithmic = [i for i, feature in enumerate(FEATURES) if feature.forest and feature.log]
    as_it_is = [i for i, feature in enumerate(FEATURES) if feature.forest and not feature.log]
    return Pipeline(
        [
            # A feature that is unknown throughout is kept, so that columns stay where the contract has them.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            (
                "log",
                ColumnTransformer(
                    [("log", FunctionTransformer(np.log1p), logarithmic), ("keep", "passthrough", as_it_is)]
                ),
            ),
            ("scale", StandardScaler()),
            ("forest", IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed)),
        ]
    )
