"""Models in the registry, without Dagster."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from txwatch.detection.registry import EXPERIMENT, ModelRegistry
from txwatch.detection.training import TrainedModel
from txwatch.features.contract import FEATURE_NAMES

REFERENCE_ROWS = 100


def registered(registry: ModelRegistry, trained: TrainedModel, features: NDArray[np.float64]) -> str:
    """The version under which a trained model is registered. The first rows of `features` are its reference sample."""
    import mlflow  # takes seconds, and most tests need none of it

    registry.prepare()
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run():
        return registry.register(
            trained.pipeline,
            trained.card,
            parameters=trained.parameters,
            metrics={"threshold": trained.card.threshold},
            reference=pd.DataFrame(features[:REFERENCE_ROWS], columns=list(FEATURE_NAMES)),
        )
