"""Putting models to the test of the gate: the same held-out windows, planted anomalies and known cases for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.detectors import default_detectors
from txwatch.detection.gate import Showing
from txwatch.detection.incidents import incidents
from txwatch.detection.known_cases import judge_cases
from txwatch.detection.look_alikes import look_alikes
from txwatch.detection.model import Model
from txwatch.detection.score import score_features
from txwatch.evaluation.figures import ONE_PERCENT
from txwatch.evaluation.labelled import Labelled
from txwatch.evaluation.metrics import auc, recall_at
from txwatch.evaluation.planted import planted
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network_store import read_network_contexts
from txwatch.features.store import read_features
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection
from txwatch.windows import WINDOW, context_window, window_range
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True)
class HeldOutWindow:
    """One window as the scoring path sees it; features of shape (transactions, len(FEATURE_NAMES))."""

    transactions: Sequence[Transaction]
    features: NDArray[np.float64]
    network: NetworkContext


def read_held_out(connection: Connection, start: datetime, end: datetime) -> list[HeldOutWindow]:
    """The windows in [start, end) that have features."""
    windows = window_range(start, end)
    networks = read_network_contexts(connection, [context_window(window) for window in windows])
    held_out = []
    for window in windows:
        stored = read_features(connection, window)
        if stored.transactions:
            network = networks.get(context_window(window), stored.context.network)
            held_out.append(HeldOutWindow(stored.transactions, stored.features, network))
    return held_out


def examine(
    models: Sequence[Model], held_out: Sequence[HeldOutWindow], *, whale_btc: float, labelled: Labelled | None = None
) -> list[Showing]:
    """What each model shows. `labelled` are known anomalies beside the planted ones."""
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
        scored = [
            score
            for window in held_out
            for score in score_features(
                window.transactions,
                TransactionBatch.of(window.transactions),
                window.features,
                window.network,
                model,
                detectors,
            )
        ]
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
            )
        )
    return showings


def _without_addresses(network: NetworkContext) -> Context:
    """A context in which addresses are unknown: those of planted transactions never occurred before."""
    return Context(replace(network, version=0))


def _kind(label: str) -> str:
    return label.removeprefix("plant:")
