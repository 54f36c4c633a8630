"""Examine models for the gate: the same held-out windows, planted anomalies, judged alerts and known cases for each.

Accuracy is not among them: with one positive in a thousand, finding nothing is 99.9 % accurate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from txwatch.alerts.store import read_precision
from txwatch.clock import WINDOW, context_window, window_range, window_start
from txwatch.detection.detectors import Detector, default_detectors
from txwatch.detection.gate import Feedback, Showing
from txwatch.detection.known_cases import incidents, judge_cases, look_alikes
from txwatch.detection.model import Model
from txwatch.detection.score import Score, score_features
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import read_network_contexts
from txwatch.features.store import read_features, read_named_features
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.replay import Labelled, simulate
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.store.database import Connection, connect, statement
from txwatch.store.transactions import read_named_transactions
from txwatch.wire.transaction import Transaction


@dataclass(frozen=True)
class HeldOutWindow:
    """One window as the scoring path sees it; features of shape (transactions, len(FEATURE_NAMES))."""

    transactions: Sequence[Transaction]
    features: NDArray[np.float64]
    network: NetworkContext


def read_held_out(connection: Connection, start: datetime, end: datetime) -> list[HeldOutWindow]:
    """The windows in [start, end) that have features."""
    return [
        HeldOutWindow(stored.transactions, stored.features, stored.context.network)
        for stored in (read_features(connection, window) for window in window_range(start, end))
        if stored.transactions
    ]


JUDGED_AT_MOST = 1_000
"""The newest ones: tastes change, and so does traffic."""


@dataclass(frozen=True)
class JudgedAlerts:
    """Alerts of the forest that people judged, by window, with their features. Those not `useful`, by txid, are noise.

    Alerts that detectors alone raised are not among them: no model decides on those.
    """

    windows: Sequence[HeldOutWindow] = ()
    useful: frozenset[str] = frozenset()


NOTHING_JUDGED = JudgedAlerts()


def read_judged(connection: Connection, at_most: int = JUDGED_AT_MOST) -> JudgedAlerts:
    """The newest judged alerts whose transactions still have features. People who disagree count for the majority."""
    rows = connection.execute(statement("lab/evaluation", "judged_alerts"), {"at_most": at_most}).fetchall()
    features = read_named_features(connection, {txid: seen_at for txid, seen_at, _ in rows})
    transactions = [tx for tx in read_named_transactions(connection, list(features)) if tx.txid in features]
    transactions.sort(key=lambda tx: (tx.seen_at, tx.txid))
    groups = {start: list(group) for start, group in groupby(transactions, lambda tx: window_start(tx.seen_at))}
    networks = read_network_contexts(connection, [context_window(start) for start in groups])
    windows = [
        HeldOutWindow(
            group,
            np.stack([features[tx.txid] for tx in group]),
            networks.get(context_window(start)) or NetworkContext(context_window(start), version=0),
        )
        for start, group in groups.items()
    ]
    return JudgedAlerts(tuple(windows), frozenset(txid for txid, _, useful in rows if useful))


def feedback_figures(database_url: str | None) -> dict[str, Any]:
    """The precision of each detector and model version by what people answered, and in words why there is none."""
    if database_url is None:
        return _without("DATABASE_URL is not set: what people said of alerts is not known here")
    try:
        with connect(database_url, application="txwatch evaluate") as connection:
            judged = read_precision(connection, datetime.min.replace(tzinfo=UTC))
    except psycopg.Error as error:
        return _without(f"the database could not be read: {error}".strip())
    if not judged:
        return _without("nobody has judged an alert yet")
    return {"judged": [asdict(one) | {"precision": one.share} for one in judged], "note": None}


def _without(note: str) -> dict[str, Any]:
    return {"judged": [], "note": note}


PLANTS_PER_HOUR: Mapping[str, float] = {
    "fee_accident": 50.0,
    "whale": 50.0,
    "coinjoin": 50.0,
    "dormant_round_move": 50.0,
    "dust_storm": 4.0,
}
DURATION = timedelta(hours=4)
"""In all 200 of each kind, and 16 storms of 20 to 60 transactions."""
SEED = 20_240_314
START = datetime(2024, 3, 14, tzinfo=UTC)


def planted(median_fee_rate: float) -> Labelled:
    """Planted anomalies that pay what others pay when the median fee rate (sat/vB) is that of the nearest regime."""
    regime = min(REGIMES.values(), key=lambda r: abs(np.log(_median(r.fee_rate) / median_fee_rate)))
    traffic = simulate(
        regime.name, seed=SEED, start=START, duration=DURATION, rate=0.01, plants_per_hour=PLANTS_PER_HOUR
    )
    rows = [row for row, label in enumerate(traffic.labels) if label is not None]
    return Labelled([traffic.transactions[row] for row in rows], [traffic.labels[row] for row in rows])


def _median(knots: Sequence[tuple[float, float]]) -> float:
    shares, values = zip(*knots, strict=True)
    return float(np.interp(0.5, shares, values))


Floats = NDArray[np.float64]


def auc(background: Floats, positives: Floats) -> float:
    """The chance that a positive scores above a background transaction, ties counted half (Mann-Whitney U)."""
    ordered = np.sort(background)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.sum() / (2 * len(background) * len(positives)))


def average_precision(background: Floats, positives: Floats) -> float:
    """The mean over the positives of the precision at each one's score; ties count as found together.

    It depends on how many positives there are for each background transaction: compare it on the same data only.
    """
    as_high = np.searchsorted(np.sort(positives), positives, "left")
    found = len(positives) - as_high
    false = len(background) - np.searchsorted(np.sort(background), positives, "left")
    return float((found / (found + false)).mean())


def threshold_at(background: Floats, false_positive_rate: float) -> float:
    """The lowest threshold above which at most this share of the background lies. A score must exceed it."""
    allowed = int(false_positive_rate * len(background))
    return float(np.partition(background, len(background) - 1 - allowed)[len(background) - 1 - allowed])


def recall_at(background: Floats, positives: Floats, false_positive_rate: float) -> float:
    """The share of positives found at the threshold that lets at most this share of the background through."""
    return float((positives > threshold_at(background, false_positive_rate)).mean())


ONE_PERCENT = 0.01


def figures(background: Floats, positives: Floats, budget_rate: float) -> dict[str, Any]:
    """What scores are worth. `budget_rate` is the false-positive rate that the alert budget allows."""
    return {
        "n": len(positives),
        "auc": auc(background, positives),
        "average_precision": average_precision(background, positives),
        "recall_at_1pct_fpr": recall_at(background, positives, ONE_PERCENT),
        "recall_at_budget_fpr": recall_at(background, positives, budget_rate),
    }


def compared(
    scores: Floats, baseline: Floats, labels: list[str | None], background: NDArray[np.bool_], budget_rate: float
) -> dict[str, Any]:
    """The figures of each label beside the baseline's. All arrays have shape (n,)."""
    known = np.array([label or "" for label in labels])
    result = {}
    for label in sorted(set(known[~background].tolist()) - {""}):
        rows = known == label
        result[label] = figures(scores[background], scores[rows], budget_rate) | {
            "baseline": figures(baseline[background], baseline[rows], budget_rate)
        }
    return result


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
