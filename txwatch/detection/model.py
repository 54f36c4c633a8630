"""A trained model with everything needed to use it: the pipeline, and the card that says what it was trained for.

Belongs here: plain values. Training is in `training.py`, keeping models is the registry's business.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from txwatch.detection.compact import CompactForest
from txwatch.detection.threshold import RecentScores, following_threshold
from txwatch.features.contract import contract_fingerprint


class ContractMismatchError(ValueError):
    """A model that was trained on other features than those at hand."""


class ModelCard(msgspec.Struct, frozen=True):
    """What a model was trained on, and what follows from that. Stored as JSON beside the pipeline. Times UTC."""

    contract: str
    """Fingerprint of the feature contract."""
    features: list[str]
    trained_from: datetime
    trained_to: datetime
    rows: int
    seed: int
    transactions_per_hour: float
    alerts_per_hour: float
    """The budget that the threshold was set for."""
    threshold: float
    """The threshold at `transactions_per_hour`."""
    highest_scores: list[float]
    """Of the rows, the highest first: what the threshold at another rate is read from."""
    seed_agreement: float
    """How far a forest of another seed agrees on the most unusual hundredth: a Jaccard index, 0 to 1."""
    medians: list[float]
    """Of each feature in training: what "ordinary" means in an explanation."""
    percentiles: list[list[float]]
    """For each feature its 0th to 100th percentile in training, 101 values."""

    def to_json(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> "ModelCard":
        """Raises msgspec.ValidationError for anything but a card."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True)
class Model:
    """A pipeline that is ready to score. `version` is the registry's, and is written beside each score."""

    version: str
    pipeline: Any
    card: ModelCard

    def __post_init__(self) -> None:
        if self.card.contract != contract_fingerprint():
            raise ContractMismatchError(
                f"model version {self.version} was trained on feature contract {self.card.contract}, this program has"
                f" {contract_fingerprint()}: train a new model, or run the program that trained this one"
            )

    @property
    def threshold(self) -> float:
        """A score at or above this is unusual at the rate of the training."""
        return self.card.threshold

    def threshold_at(self, transactions_per_hour: float | None, recent: RecentScores | None = None) -> float:
        """The threshold that keeps the budget at this rate of traffic, which None leaves at that of the training."""
        card = self.card
        rate = card.transactions_per_hour if transactions_per_hour is None else transactions_per_hour
        return following_threshold(card.highest_scores, card.rows, rate, card.alerts_per_hour, recent)

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The anomaly score of each row, above 0 and up to 1: 2^(-E[h]/c) of Liu et al., "Isolation Forest", 2008.

        `features` has shape (n, len(FEATURE_NAMES)), NaN where unknown. Higher is more unusual.
        """
        if not len(features):
            return np.empty(0)
        return self.compact.score(features)

    @cached_property
    def compact(self) -> CompactForest:
        """The same pipeline as flat arrays, with identical scores."""
        return CompactForest.of(self.pipeline)

    def percentile(self, feature: int, value: float) -> float:
        """Where a value stands among those seen in training, 0 to 100."""
        grid = self.card.percentiles[feature]
        return float(np.searchsorted(grid, value, "left") + np.searchsorted(grid, value, "right") - 1) / 2
