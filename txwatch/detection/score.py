"""The one scoring path: the live lane, sealed windows and backtests all call it, so that they cannot disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.accounting import accounted_for, remaining_scores, without
from txwatch.detection.detectors import Detector, find_all
from txwatch.detection.explain import explain
from txwatch.detection.kinds import alerting
from txwatch.detection.model import Model
from txwatch.detection.reasons import Reason
from txwatch.detection.threshold import RecentScores, arrivals_per_hour
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.transaction import transaction_features
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Score:
    """One transaction's score, above 0 and up to 1, beside what the findings of the detectors account for.

    Unusual if it reaches the threshold or if a kind that alerts was found; kinds that only tag leave it ordinary.
    Reasons: first those of the detectors, then, from the threshold on, what the forest saw.
    """

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Reason]


def find_by_rules(transactions: Sequence[Transaction], context: Context, detectors: Sequence[Detector]) -> list[Score]:
    """What the detectors say of transactions of one window, for when there is no model: score and threshold are NaN."""
    batch = TransactionBatch.of(transactions)
    reasons = find_all(detectors, batch, transaction_features(batch, context))
    return [
        Score(tx.txid, tx.seen_at, math.nan, math.nan, alerting(found), found)
        for row, tx in enumerate(transactions)
        for found in [reasons.get(row, [])]
    ]


def score(
    transactions: Sequence[Transaction],
    context: Context,
    model: Model,
    detectors: Sequence[Detector],
    recent: RecentScores | None = None,
) -> list[Score]:
    """Score transactions of one window in the context of that window, `recent` being the model's scores as of it.

    Without them the threshold is that of the training day.
    """
    batch = TransactionBatch.of(transactions)
    features = transaction_features(batch, context)
    return score_features(transactions, batch, features, context.network, model, detectors, recent)


def score_features(
    transactions: Sequence[Transaction],
    batch: TransactionBatch,
    features: NDArray[np.float64],
    network: NetworkContext,
    model: Model,
    detectors: Sequence[Detector],
    recent: RecentScores | None = None,
) -> list[Score]:
    """The same from features that were computed before, of shape (n, len(FEATURE_NAMES))."""
    reasons = find_all(detectors, batch, features)
    accounted = accounted_for({row: [r.kind for r in found] for row, found in reasons.items()}, len(features))
    medians = np.array(model.card.medians)
    scores = remaining_scores(model.score, features, accounted, medians)
    threshold = model.threshold_at(arrivals_per_hour(network), recent)
    by_forest = np.flatnonzero(scores >= threshold)
    news = without(features[by_forest], accounted[by_forest], medians)
    unusual = {row for row, found in reasons.items() if alerting(found)} | set(by_forest.tolist())
    for row, found in zip(by_forest.tolist(), explain(model, news), strict=True):
        reasons.setdefault(row, []).extend(found)
    return [
        Score(tx.txid, tx.seen_at, value, threshold, row in unusual, reasons.get(row, []))
        for row, (tx, value) in enumerate(zip(transactions, scores.tolist(), strict=True))
    ]
