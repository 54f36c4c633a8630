"""Train a model: features in, a fitted pipeline and its card out. No label is used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from txwatch.clock import window_start
from txwatch.detection.accounting import likely_findings, remaining_scores, without
from txwatch.detection.answers import Answers, Taught, learn
from txwatch.detection.model import SAMPLES_PER_TREE, TREES, CompactForest, Model, ModelCard, build_forest
from txwatch.detection.patterns import best_of_each, patterns_of, seen_once, shapes_of, worth
from txwatch.detection.threshold import budget_threshold, highest
from txwatch.detection.voices import Neighbours, Rarity, combined, draw_references
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.wire.messages import SAT_PER_BTC

MIN_ROWS = 5_000
"""Rows for a first training, with those held out."""
MIN_TRAINED_ROWS = 3_000
"""Rows. Of fewer an Isolation Forest has seen too little for a threshold in the far tail of the day's traffic."""
HELD_OUT_SHARE = 0.2
HELD_OUT_AT_MOST = timedelta(hours=1)
AGREEMENT_ROWS = 50_000
MATERIAL_BTC = 0.1
"""Of ordinary traffic nine in ten move less."""


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
    """A fitted pipeline and its card."""

    pipeline: Any
    card: ModelCard

    def model(self, version: str) -> Model:
        """Ready to score, by a version that it may not have in any registry."""
        return Model(version, self.pipeline, self.card)

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
            "answers": len(card.taught.weights),
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
    material_btc: float = MATERIAL_BTC,
    hours: float | None = None,
    left_out: Sequence[str] = (),
) -> TrainedModel:
    """Fit on features of shape (n, len(FEATURE_NAMES)), seen in [trained_from, trained_to). Raises TooFewRowsError.

    They are all that was seen, or all of so many `hours` of it; `left_out` names days that are not among them. What
    rules account for is put back to its median: what is learnt is what is ordinary beside it.
    """
    n = len(features)
    if n < min_rows:
        raise TooFewRowsError(
            f"{n} transactions between {trained_from:%Y-%m-%d %H:%M} and {trained_to:%Y-%m-%d %H:%M} UTC;"
            f" training wants {min_rows}: let the feed run on, or land a capture"
        )
    known = np.where(np.isnan(features).all(axis=0), 0.0, features)
    medians = np.nanmedian(known, axis=0)
    # Otherwise the day's coinjoins would teach that coinjoins are ordinary.
    beside = without(features, likely_findings(features, whale_btc=whale_btc), medians)
    fitted = _fit(beside, seed, trees)
    material_sat = material_btc * SAT_PER_BTC
    card = ModelCard(
        contract=contract_fingerprint(),
        features=list(FEATURE_NAMES),
        trained_from=trained_from,
        trained_to=trained_to,
        rows=n,
        seed=seed,
        transactions_per_hour=n / (hours or (trained_to - trained_from) / timedelta(hours=1)),
        alerts_per_hour=alerts_per_hour,
        threshold=0.0,
        highest_scores=[],
        seed_agreement=_seed_agreement(beside, fitted, seed, trees),
        medians=medians.tolist(),
        percentiles=np.nanpercentile(known, np.arange(101), axis=0).T.tolist(),
        material_sat=material_sat,
        shapes=np.unique(shapes_of(patterns_of(features, material_sat))).tolist(),
        references=fitted.neighbours.references.astype("<f8").tobytes(),
        forest=fitted.rarities[0],
        neighbours=fitted.rarities[1],
        left_out=list(left_out),
    )
    return _with_threshold(TrainedModel(fitted.pipeline, card), fitted.score, features, whale_btc)


def teach(trained: TrainedModel, features: Floats, answers: Answers, *, whale_btc: float) -> TrainedModel:
    """The same model with what it learns from people's answers, and the threshold that keeps its budget with that.

    `features` are those that it was trained on.
    """
    model = trained.model("taught")
    medians = np.array(trained.card.medians)
    judged = without(answers.features, likely_findings(answers.features, whale_btc=whale_btc), medians)
    rows = model.compact.rows(judged)
    taught = Taught(rows.astype("<f8").tobytes(), learn(model.compact.leaves(rows), answers.useful))
    with_answers = replace(trained, card=msgspec.structs.replace(trained.card, taught=taught))
    return _with_threshold(with_answers, with_answers.model("taught").score, features, whale_btc)


def _with_threshold(
    trained: TrainedModel, score: Callable[[Floats], Floats], features: Floats, whale_btc: float
) -> TrainedModel:
    """The threshold by the plain scores of the training rows, beside what rules account for."""
    card, n = trained.card, len(features)
    patterns, accounted = patterns_of(features, card.material_sat), likely_findings(features, whale_btc=whale_btc)
    factors = worth(patterns, seen_once(shapes_of(patterns)))
    scores = remaining_scores(score, features, accounted, np.array(card.medians), factors)
    # Rows are in order of time, so that about so many of them are an hour.
    hours = (np.arange(n) / card.transactions_per_hour).astype(np.int64)
    best = highest(best_of_each(scores, patterns, hours), n)
    threshold = budget_threshold(best, n, card.transactions_per_hour, card.alerts_per_hour)
    return replace(trained, card=msgspec.structs.replace(card, threshold=threshold, highest_scores=best))


@dataclass(frozen=True)
class _Fitted:
    """Both voices, and how rare the scores of each are."""

    pipeline: Any
    forest: CompactForest
    neighbours: Neighbours
    rarities: tuple[Rarity, Rarity]

    def score(self, features: Floats) -> Floats:
        rows = self.forest.rows(features)
        voices = (self.forest.score(rows), self.neighbours.score(rows))
        return combined(
            np.stack([rarity.log_share(scores) for rarity, scores in zip(self.rarities, voices, strict=True)])
        )


def _fit(features: Floats, seed: int, trees: int) -> _Fitted:
    pipeline = build_forest(seed, trees=trees, samples=min(SAMPLES_PER_TREE, len(features))).fit(features)
    forest = CompactForest.of(pipeline)
    rows = forest.rows(features)
    drawn = draw_references(len(rows))
    neighbours = Neighbours(rows[drawn])
    distances = neighbours.score(rows)
    distances[drawn] = neighbours.score_references()
    return _Fitted(pipeline, forest, neighbours, (Rarity.of(forest.score(rows)), Rarity.of(distances)))


def held_out_from(first: datetime, last: datetime) -> datetime:
    """Where training ends for traffic seen from `first` to `last`: what comes after is kept for the gate."""
    return window_start(last - min(HELD_OUT_AT_MOST, HELD_OUT_SHARE * (last - first)))


def _seed_agreement(features: Floats, fitted: _Fitted, seed: int, trees: int) -> float:
    """How far a model of another seed agrees on the top hundredth of the newest rows."""
    newest = features[-AGREEMENT_ROWS:]
    return top_agreement(fitted.score(newest), _fit(features, seed + 1, trees).score(newest))
