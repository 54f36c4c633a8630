"""Putting models to the test of the gate: the same held-out windows, planted anomalies and known cases for each."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from txwatch.detection.detectors import Detector, default_detectors
from txwatch.detection.gate import Feedback, Showing
from txwatch.detection.incidents import incidents
from txwatch.detection.known_cases import judge_cases
from txwatch.detection.look_alikes import look_alikes
from txwatch.detection.model import Model
from txwatch.detection.score import Score, score_features
from txwatch.evaluation.figures import ONE_PERCENT
from txwatch.evaluation.held_out import HeldOutWindow
from txwatch.evaluation.judged import NOTHING_JUDGED, JudgedAlerts
from txwatch.evaluation.labelled import Labelled
from txwatch.evaluation.metrics import auc, recall_at
from txwatch.evaluation.planted import planted
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.transaction import transaction_features
from txwatch.windows import WINDOW


def examine(
    models: Sequence[Model],
    held_out: Sequence[HeldOutWindow],
    *,
    whale_btc: float,
    labelled: Labelled | None = None,
    judged: JudgedAlerts = NOTHING_JUDGED,
) -> list[Showing]:
    """What each model shows. `labelled` are known anomalies beside the planted ones, `judged` what people answered."""
    detectors = default_detectors(whale_btc=whale_btc)
    features = np.concatenate([np.empty((0, len(FEATURE_NAMES))), *(window.features for window in held_out)])
    network = max((w.network for w in held_out), key=lambda n: n.as_of)
    fee_rate = network.median_fee_rate_1h or float(np.nanmedian(features[:, FEATURE_NAMES.index("fee_rate")]))
    anomalies = planted(fee_rate)
    if labelled is not None:
        anomalies = Labelled([*anomalies.transactions, *labelled.transactions], [*anomalies.labels, *labelled.labels])
    known = transaction_features(TransactionBatch.of(anomalies.transactions), _without_addresses(network))
    showings = []
    for model in models:
        scores, of_known = model.score(features), model.score(known)
        scored = _scored(held_out, model, detectors)
        kinds = {label: of_known[anomalies.rows(label)] for label in sorted({x for x in anomalies.labels if x})}
        showings.append(
            Showing(
                version=model.version,
                hours=len(held_out) * (WINDOW / timedelta(hours=1)),
                scores=scores,
                alerts=sum(score.score >= score.threshold for score in scored),
                alerts_per_hour=model.card.alerts_per_hour,
                seed_agreement=model.card.seed_agreement,
                incidents=judge_cases(incidents(), model, detectors),
                look_alikes=judge_cases(look_alikes(fee_rate), model, detectors),
                auc={_kind(label): auc(scores, s) for label, s in kinds.items()},
                recall={_kind(label): recall_at(scores, s, ONE_PERCENT) for label, s in kinds.items()},
                feedback=_feedback(judged, model, detectors),
            )
        )
    return showings


def _scored(windows: Sequence[HeldOutWindow], model: Model, detectors: Sequence[Detector]) -> list[Score]:
    return [
        score
        for window in windows
        for score in score_features(
            window.transactions,
            TransactionBatch.of(window.transactions),
            window.features,
            window.network,
            model,
            detectors,
        )
    ]


def _feedback(judged: JudgedAlerts, model: Model, detectors: Sequence[Detector]) -> Feedback:
    """What the model makes of the transactions that people judged."""
    raised = {s.txid: s.score >= s.threshold for s in _scored(judged.windows, model, detectors)}
    useful = [found for txid, found in raised.items() if txid in judged.useful]
    noise = [found for txid, found in raised.items() if txid not in judged.useful]
    return Feedback(len(useful), sum(useful), len(noise), sum(noise))


def _without_addresses(network: NetworkContext) -> Context:
    """A context in which addresses are unknown: those of planted transactions never occurred before."""
    return Context(replace(network, version=0))


def _kind(label: str) -> str:
    return label.removeprefix("plant:")
