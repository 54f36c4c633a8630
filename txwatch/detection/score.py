"""The one scoring path: the live lane, sealed windows and backtests all call it, so that they cannot disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.detectors import Detector
from txwatch.detection.explain import explain
from txwatch.detection.kinds import alerting
from txwatch.detection.model import Model
from txwatch.detection.reasons import Reason
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context
from txwatch.features.transaction import transaction_features
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Score:
    """One transaction's score, above 0 and up to 1. Unusual if its score reaches the threshold or a kind that alerts
    was found; kinds that only tag leave it ordinary.

    Reasons: first those of the detectors, then, from the threshold on, what the forest saw.
    """

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Reason]


def score(
    transactions: Sequence[Transaction], context: Context, model: Model, detectors: Sequence[Detector]
) -> list[Score]:
    """Score transactions of one window in the context of that window."""
    batch = TransactionBatch.of(transactions)
    return score_features(transactions, batch, transaction_features(batch, context), model, detectors)


def score_features(
    transactions: Sequence[Transaction],
    batch: TransactionBatch,
    features: NDArray[np.float64],
    model: Model,
    detectors: Sequence[Detector],
) -> list[Score]:
    """The same from features that were computed before, of shape (n, len(FEATURE_NAMES))."""
    scores = model.score(features)
    by_forest = np.flatnonzero(scores >= model.threshold)
    reasons: dict[int, list[Reason]] = {}
    for detector in detectors:
        for row, reason in detector.find(batch, features):
            reasons.setdefault(row, []).append(reason)
    for row, found in zip(by_forest.tolist(), explain(model, features[by_forest]), strict=True):
        reasons.setdefault(row, []).extend(found)
    unusual = {row for row, found in reasons.items() if alerting(found)} | set(by_forest.tolist())
    return [
        Score(tx.txid, tx.seen_at, value, model.threshold, row in unusual, reasons.get(row, []))
        for row, (tx, value) in enumerate(zip(transactions, scores.tolist(), strict=True))
    ]
