"""Train a model: features in, a fitted pipeline and its card out. No label is used."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from txwatch.clock import window_start
from txwatch.detection.accounting import likely_findings, remaining_scores
from txwatch.detection.model import SAMPLES_PER_TREE, TREES, CompactForest, ModelCard, build_forest
from txwatch.detection.threshold import budget_threshold, highest
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint

MIN_ROWS = 5_000
"""Rows for a first training, with those held out."""
MIN_TRAINED_ROWS = 3_000
"""Rows. Of fewer an Isolation Forest has seen too little for a threshold in the far tail of the day's traffic."""
HELD_OUT_SHARE = 0.2
HELD_OUT_AT_MOST = timedelta(hours=1)
AGREEMENT_ROWS = 50_000


def top_agreement(a: Floats, b: Floats, share: float = 0.01) -> float:
    """The Jaccard index of the highest-scoring share by two scores of the same rows; 1 without rows."""
    count = max(1, int(share * len(a)))
    if not len(a):
        return 1.0
    top_a, top_b = (set(np.argpartition(-scores, count - 1)[:count].tolist()) for scores in (a, b))
    return len(top_a & top_b) / len(top_a | top_b)


class TooFewRowsError(ValueError):
    """Too little traffic to learn from."""


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline, its card, and its scores of the training rows beside what is accounted for."""

    pipeline: Any
    card: ModelCard
    scores: Floats

    @property
    def parameters(self) -> dict[str, Any]:
        """For MLflow."""
        card = self.card
        return {
            "trees": self.pipeline.named_steps["forest"].n_estimators,
            "samples_per_tree": min(SAMPLES_PER_TREE, card.rows),
            "seed": card.seed,
            "rows": card.rows,
            "contract": card.contract,
            "trained_from": card.trained_from.isoformat(),
            "trained_to": card.trained_to.isoformat(),
            "alerts_per_hour": card.alerts_per_hour,
        }


def train(
    features: Floats,
    trained_from: datetime,
    trained_to: datetime,
    *,
    alerts_per_hour: float,
    whale_btc: float,
    seed: int,
    min_rows: int = MIN_TRAINED_ROWS,
    trees: int = TREES,
) -> TrainedModel:
    """Fit on features of shape (n, len(FEATURE_NAMES)), seen in [trained_from, trained_to). Raises TooFewRowsError."""
    n = len(features)
    if n < min_rows:
        raise TooFewRowsError(
            f"{n} transactions between {trained_from:%Y-%m-%d %H:%M} and {trained_to:%Y-%m-%d %H:%M} UTC;"
            f" training wants {min_rows}: let the feed run on, or land a capture"
        )
    pipeline = build_forest(seed, trees=trees, samples=min(SAMPLES_PER_TREE, n)).fit(features)
    known = np.where(np.isnan(features).all(axis=0), 0.0, features)
    medians = np.nanmedian(known, axis=0)
    plain = CompactForest.of(pipeline).score
    scores = remaining_scores(plain, features, likely_findings(features, whale_btc=whale_btc), medians)
    best = highest(scores)
    transactions_per_hour = n / ((trained_to - trained_from) / timedelta(hours=1))
    card = ModelCard(
        contract=contract_fingerprint(),
        features=list(FEATURE_NAMES),
        trained_from=trained_from,
        trained_to=trained_to,
        rows=n,
        seed=seed,
        transactions_per_hour=transactions_per_hour,
        alerts_per_hour=alerts_per_hour,
        threshold=budget_threshold(best, n, transactions_per_hour, alerts_per_hour),
        highest_scores=best,
        seed_agreement=_seed_agreement(features, plain, seed, trees),
        medians=medians.tolist(),
        percentiles=np.nanpercentile(known, np.arange(101), axis=0).T.tolist(),
    )
    return TrainedModel(pipeline, card, scores)


def held_out_from(first: datetime, last: datetime) -> datetime:
    """Where training ends for traffic seen from `first` to `last`: what comes after is kept for the gate."""
    return window_start(last - min(HELD_OUT_AT_MOST, HELD_OUT_SHARE * (last - first)))


def _seed_agreement(features: Floats, score: Callable[[Floats], Floats], seed: int, trees: int) -> float:
    """How far a forest of another seed agrees on the top hundredth of the newest rows."""
    other = build_forest(seed + 1, trees=trees, samples=min(SAMPLES_PER_TREE, len(features))).fit(features)
    newest = features[-AGREEMENT_ROWS:]
    return top_agreement(score(newest), CompactForest.of(other).score(newest))
