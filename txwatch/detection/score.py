"""The one scoring path of the live lane, sealed windows and backtests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from txwatch.clock import CONTEXT_LAG, WINDOW
from txwatch.detection.accounting import accounted_for, remaining_scores, without
from txwatch.detection.detector import Detector
from txwatch.detection.explain import explain
from txwatch.detection.kinds import alerting
from txwatch.detection.model import Model
from txwatch.detection.patterns import patterns_of
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import find_all
from txwatch.detection.threshold import RecentScores, arrivals_per_hour
from txwatch.features.batch import TransactionBatch, WindowFeatures
from txwatch.features.context import Context
from txwatch.features.transaction import transaction_features
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Score:
    """One transaction's score, above 0 and up to 1, beside what the findings of the detectors account for.

    An anomaly reaches the threshold, or has a kind that alerts. Reasons are first those of the detectors, then, from
    the threshold on, those of the forest.
    """

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Reason]
    pattern: int | None = None
    """By `txwatch.detection.patterns`; None where there is no model."""


def window_of(transactions: Sequence[Transaction], context: Context) -> WindowFeatures:
    """Transactions of one window, or a part of it, with their features in its context."""
    batch, start = TransactionBatch.of(transactions), context.network.as_of + CONTEXT_LAG * WINDOW
    return WindowFeatures(start, transactions, batch, transaction_features(batch, context), context)


def find_by_rules(window: WindowFeatures, detectors: Sequence[Detector]) -> list[Score]:
    """What the detectors say of a window, for when there is no model: score and threshold are NaN."""
    reasons = find_all(detectors, window.batch, window.features)
    return [
        Score(txid, seen_at, math.nan, math.nan, alerting(found), found)
        for row, (txid, seen_at) in enumerate(zip(window.batch.txids, window.batch.seen_at(), strict=True))
        for found in [reasons.get(row, [])]
    ]


def score(
    transactions: Sequence[Transaction],
    context: Context,
    model: Model,
    detectors: Sequence[Detector],
    recent: RecentScores | None = None,
) -> list[Score]:
    """Score transactions of one window. Without the model's recent scores the threshold is that of the training day."""
    return score_features(window_of(transactions, context), model, detectors, recent)


def score_features(
    window: WindowFeatures, model: Model, detectors: Sequence[Detector], recent: RecentScores | None = None
) -> list[Score]:
    """The same from features that were computed before."""
    features = window.features
    reasons = find_all(detectors, window.batch, features)
    accounted = accounted_for({row: [r.kind for r in found] for row, found in reasons.items()}, len(features))
    medians = np.array(model.card.medians)
    patterns = patterns_of(features, model.card.material_sat)
    scores = remaining_scores(model.score, features, accounted, medians, model.worth(patterns))
    threshold = model.threshold_at(arrivals_per_hour(window.context.network), recent)
    by_forest = np.flatnonzero(scores >= threshold)
    unusual = {row for row, found in reasons.items() if alerting(found)} | set(by_forest.tolist())
    unexplained = without(features[by_forest], accounted[by_forest], medians)
    for row, found in zip(by_forest.tolist(), explain(model, unexplained), strict=True):
        reasons.setdefault(row, []).extend(found)
    batch = window.batch
    return [
        Score(txid, seen_at, value, threshold, row in unusual, reasons.get(row, []), pattern)
        for row, (txid, seen_at, value, pattern) in enumerate(
            zip(batch.txids, batch.seen_at(), scores.tolist(), patterns.tolist(), strict=True)
        )
    ]
