"""Every figure that is claimed, in one dictionary, beside the baseline and the rule for whales: `txwatch evaluate`.

Its features were four raw numbers of the message: total output in BTC, `tx["fee"]`, inputs and outputs. The feed has no
field `fee`, so the second was 0 for every transaction. They went through a StandardScaler into an Isolation Forest with
scikit-learn's defaults.

The rule that it is measured against is the common one: a whale is a transaction whose outputs add up to so much.

On captures: trained on some, the false-positive rates measured on others, the positives those of a third. No label is
used in training. All see one context, that of the training capture: captures have no common timeline, and a context of
each one's own would tell them apart by what they were recorded with. Addresses are unknown for the same reason.

Without captures: the simulator's traffic, trained on its first hours and measured on the following ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txwatch.clock import window_start
from txwatch.detection.detectors import default_detectors
from txwatch.detection.known_cases import Case, incidents, judge_cases, look_alikes
from txwatch.detection.model import Model
from txwatch.detection.reasons import SAT
from txwatch.detection.score import Score, score
from txwatch.detection.training import TrainedModel, train
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import network_buckets, network_contexts
from txwatch.features.transaction import moved_value, transaction_features
from txwatch.lab.evaluation.backtest import FollowedScoring
from txwatch.lab.evaluation.examination import SEED, START, compared, planted
from txwatch.lab.evaluation.replay import Labelled, network_columns, replay, replayed_features, simulate
from txwatch.lab.simulator.ordinary import BIG_SAT
from txwatch.lab.simulator.plants import label
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.wire.transaction import Transaction

BASELINE_SEED = 42


def baseline_features(transactions: Sequence[Transaction]) -> NDArray[np.float64]:
    """Shape (n, 4): total output in BTC, the fee that the feed does not have, inputs, outputs."""
    rows = [(tx.value_sat / SAT, 0.0, tx.input_count, tx.output_count) for tx in transactions]
    return np.array(rows, np.float64).reshape(len(rows), 4)


class Baseline:
    """The recipe, fitted."""

    def __init__(self, train: Sequence[Transaction]) -> None:
        from sklearn.ensemble import IsolationForest
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._pipeline = make_pipeline(StandardScaler(), IsolationForest(random_state=BASELINE_SEED))
        self._pipeline.fit(baseline_features(train))

    def score(self, transactions: Sequence[Transaction]) -> NDArray[np.float64]:
        """Higher is more unusual."""
        scores: NDArray[np.float64] = -self._pipeline.score_samples(baseline_features(transactions))
        return scores


Flags = NDArray[np.bool_]

_REAL_MOVES = {label("whale"), label("dormant_round_move")}


def whale_figures(traffic: Labelled, truth: Flags, whale_btc: float) -> dict[str, Any]:
    """Precision, recall and false-positive rate of the rule, and of the one by total output. Shape of truth: (n,)."""
    batch = TransactionBatch.of(traffic.transactions)
    by_rule = moved_value(batch).likely >= whale_btc * SAT
    by_total = batch.value_sat >= whale_btc * SAT
    return (
        {"n": int(truth.sum()), "transactions": len(traffic)}
        | _rates(by_rule, truth)
        | {"baseline": _rates(by_total, truth)}
    )


def simulated_truth(traffic: Labelled, whale_btc: float) -> Flags:
    """Which simulated transactions really moved that much. Ordinary ones move less than BIG_SAT: raises ValueError for
    a lower bound than that, where their truth is not known."""
    if whale_btc * SAT < BIG_SAT:
        raise ValueError(f"the simulator knows who moved {BIG_SAT / SAT:g} BTC or more, not {whale_btc:g}")
    return np.array(
        [
            known in _REAL_MOVES and max(output.value for output in tx.outputs) >= whale_btc * SAT
            for tx, known in zip(traffic.transactions, traffic.labels, strict=True)
        ],
        np.bool_,
    )


def _rates(found: Flags, truth: Flags) -> dict[str, float | None]:
    right = int((found & truth).sum())
    return {
        "precision": right / int(found.sum()) if found.any() else None,
        "recall": right / int(truth.sum()) if truth.any() else None,
        "false_positive_rate": float((found & ~truth).sum() / max(1, (~truth).sum())),
    }


TRANSACTIONS_PER_HOUR = 19_800.0
"""5.5 a second, what the network brings on an ordinary day: captures say nothing reliable of their own rate."""
MIN_ROWS = 500


@dataclass(frozen=True)
class Options:
    """What a figure depends on beside the data."""

    alerts_per_hour: float = 12.0
    transactions_per_hour: float = TRANSACTIONS_PER_HOUR
    whale_btc: float = 500.0
    seed: int = SEED

    @property
    def budget_rate(self) -> float:
        """The share of transactions that the budget lets alert."""
        return self.alerts_per_hour / self.transactions_per_hour


def evaluate_captures(
    train_on: Labelled, background: Labelled, positives: Labelled, options: Options | None = None
) -> dict[str, Any]:
    """Train on one set, measure on the others. Raises TooFewRowsError.

    Labelled transactions of the background are known positives: they are left out of it, and not counted.
    """
    options = options or Options()
    context = capture_context(train_on.transactions)
    features = transaction_features(TransactionBatch.of(train_on.transactions), context)
    span = timedelta(hours=len(features) / options.transactions_per_hour)
    model = _model(_trained(features, span, options))
    baseline = Baseline(train_on.transactions)
    unlabelled = background.only(None)
    plants = planted(context.network.median_fee_rate_1h or 1.0)
    parts = [unlabelled, positives, plants]
    scores = [model.score(transaction_features(TransactionBatch.of(p.transactions), context)) for p in parts]
    by_baseline = [baseline.score(p.transactions) for p in parts]

    def figures_of(part: int) -> dict[str, Any]:
        labels = [None] * len(unlabelled) + [label or "unlabelled" for label in parts[part].labels]
        return compared(
            np.concatenate([scores[0], scores[part]]),
            np.concatenate([by_baseline[0], by_baseline[part]]),
            labels,
            np.arange(len(labels)) < len(unlabelled),
            options.budget_rate,
        )

    detectors = default_detectors(whale_btc=options.whale_btc)
    found = {
        name: _found(score(part.transactions, context, model, detectors), part.labels)
        for name, part in (("background", unlabelled), ("positives", positives), ("planted", plants))
    }
    return {
        "labels": figures_of(1),
        "whales": _whales(options) | {"captures": _whales_in(found)},
        "planted": figures_of(2),
        "found": found,
        "known_cases": _known_cases(model, options),
        "data": {
            "train": len(train_on),
            "background": len(unlabelled),
            "background_labelled_left_out": len(background) - len(unlabelled),
            "positives": len(positives),
            "malformed": train_on.malformed + background.malformed + positives.malformed,
            "budget_fpr": options.budget_rate,
        },
    }


def evaluate_simulated(
    regime: str = "2024-03",
    options: Options | None = None,
    *,
    train_for: timedelta = timedelta(hours=3),
    measure_for: timedelta = timedelta(hours=3),
    rate: float | None = None,
) -> dict[str, Any]:
    """Train on the first hours of simulated traffic, plants and all, and measure on the next ones."""
    options = options or Options()
    traffic = simulate(regime, seed=options.seed, start=START, duration=train_for + measure_for, rate=rate)
    windows = list(replay(traffic.transactions))
    before = [w for w in windows if w.start < START + train_for]
    after = [w for w in windows if w.start >= START + train_for]
    model = _model(_trained(replayed_features(before), train_for, options))
    baseline = Baseline([tx for window in before for tx in window.transactions])
    transactions = [tx for window in after for tx in window.transactions]
    labels = traffic.labels[len(traffic) - len(transactions) :]
    detectors = default_detectors(whale_btc=options.whale_btc)
    scoring = FollowedScoring(model, detectors)
    scored = [s for window in after for s in scoring.score(window)]
    measured = Labelled(transactions, labels)
    return {
        "labels": compared(
            model.score(replayed_features(after)),
            baseline.score(transactions),
            labels,
            np.array([label is None for label in labels]),
            options.budget_rate,
        ),
        "whales": whale_figures(measured, simulated_truth(measured, options.whale_btc), options.whale_btc),
        "found": {"simulated": _found(scored, labels)},
        "known_cases": _known_cases(model, options),
        "data": {
            "train": len(traffic) - len(transactions),
            "background": labels.count(None),
            "forest_alerts_per_hour": sum(s.score >= s.threshold for s in scored) / (measure_for / timedelta(hours=1)),
            "budget_fpr": options.budget_rate,
        },
    }


def capture_context(transactions: Sequence[Transaction]) -> Context:
    """The network as a capture shows it, all of it as one hour. Nothing is known of addresses."""
    window = window_start(transactions[0].seen_at)
    columns = replace(network_columns(transactions), seen=np.full(len(transactions), window.timestamp()))
    network = network_contexts(network_buckets(columns, [window]), [window])[0]
    return Context(replace(network, windows_24h=0))


def _trained(features: NDArray[np.float64], span: timedelta, options: Options) -> TrainedModel:
    return train(
        features,
        START,
        START + span,
        alerts_per_hour=options.alerts_per_hour,
        whale_btc=options.whale_btc,
        seed=options.seed,
        min_rows=MIN_ROWS,
    )


def _model(trained: TrainedModel) -> Model:
    return Model("evaluated", trained.pipeline, trained.card)


def _found(scored: Sequence[Score], labels: Sequence[str | None]) -> dict[str, Any]:
    """For each label: how many there are, the share that alerts, and the share in which each kind was found."""
    result: dict[str, Any] = {}
    for name in sorted({known or "unlabelled" for known in labels}):
        rows = [s for s, known in zip(scored, labels, strict=True) if (known or "unlabelled") == name]
        kinds = [{reason.kind for reason in s.reasons} for s in rows]
        result[name] = {
            "n": len(rows),
            "alerted": sum(s.is_anomaly for s in rows) / len(rows),
            "kinds": {kind: sum(kind in k for k in kinds) / len(rows) for kind in sorted(set().union(*kinds))},
        }
    return result


def _whales(options: Options) -> dict[str, Any]:
    """The rule against the truth of an hour of each regime."""
    parts = [simulate(name, seed=options.seed, start=START, duration=timedelta(hours=1)) for name in REGIMES]
    traffic = Labelled([tx for p in parts for tx in p.transactions], [label for p in parts for label in p.labels])
    return whale_figures(traffic, simulated_truth(traffic, options.whale_btc), options.whale_btc)


def _whales_in(found: dict[str, Any]) -> dict[str, float]:
    """The share of each label's transactions that the rule calls whales."""
    return {
        label: values["kinds"].get("whale", 0.0)
        for part in ("background", "positives")
        for label, values in found[part].items()
    }


def _known_cases(model: Model, options: Options) -> dict[str, Any]:
    fee_rate = model.card.medians[FEATURE_NAMES.index("fee_rate")]
    detectors = default_detectors(whale_btc=options.whale_btc)

    def verdicts(cases: Sequence[Case]) -> dict[str, bool]:
        return {verdict.case.name: verdict.right for verdict in judge_cases(cases, model, detectors)}

    return {"incidents_found": verdicts(incidents()), "look_alikes_silent": verdicts(look_alikes(fee_rate))}
