"""What tests of detection and evaluation share: simulated traffic and models trained on it, made once for a session."""

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.model import TREES, Model
from txwatch.detection.training import train
from txwatch.features.batch import WindowFeatures
from txwatch.lab.evaluation.replay import Labelled, replay, replayed_features, simulate

START = datetime(2024, 3, 14, tzinfo=UTC)
REGIMES = ("2024-03", "2024-10", "2025-07")


@cache
def traffic(regime: str = "2024-03", seed: int = 1, minutes: int = 60, plants: bool = True) -> Labelled:
    """Simulated transactions of `minutes`, about 330 each."""
    rates = {} if plants else {"plants_per_hour": {}}
    return simulate(regime, seed=seed, start=START, duration=timedelta(minutes=minutes), **rates)


@cache
def windows(regime: str = "2024-03", seed: int = 1, minutes: int = 60, plants: bool = True) -> list[WindowFeatures]:
    """The same in windows, with their contexts and features."""
    return list(replay(traffic(regime, seed, minutes, plants).transactions))


def features(regime: str = "2024-03", seed: int = 1, minutes: int = 60, plants: bool = True) -> NDArray[np.float64]:
    """The features of the same."""
    return replayed_features(windows(regime, seed, minutes, plants))


@cache
def model(
    regime: str = "2024-03", seed: int = 1, minutes: int = 60, *, trees: int = TREES, version: str = "1"
) -> Model:
    """A model trained on them, with the default budget."""
    return fit(features(regime, seed, minutes), minutes=minutes, trees=trees, version=version)


def fit(
    rows: NDArray[np.float64],
    *,
    minutes: float,
    trees: int = TREES,
    version: str = "1",
    seed: int = 7,
    budget: float = 12,
) -> Model:
    """A model trained on these rows, which were seen within `minutes`."""
    end = START + timedelta(minutes=minutes)
    trained = train(rows, START, end, alerts_per_hour=budget, whale_btc=500, seed=seed, min_rows=100, trees=trees)
    return Model(version, trained.pipeline, trained.card)
