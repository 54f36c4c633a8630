"""Every figure that is claimed, in one dictionary, beside a baseline and the rule for whales: `txwatch evaluate`.

The baseline is the recipe of four raw numbers of the message (total output in BTC, `tx["fee"]`, inputs and outputs; the
feed has no field `fee`, so it was 0 throughout) through a StandardScaler into an Isolation Forest with scikit-learn's
defaults. The common rule for whales is that outputs add up to so much.

On captures: trained on some, the false-positive rates measured on others, the positives those of a third. No label is
used in training. All have the context of the training capture, without addresses: captures have no common timeline, and
contexts of their own would differ by how they were recorded.

Without captures: the simulator's traffic, trained on its first hours and measured on the following ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from txwatch.clock import window_start
from txwatch.detection.detector import Detector
from txwatch.detection.known_cases import incidents, judge_cases, look_alikes
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors, find_all
from txwatch.detection.score import Score, score
from txwatch.detection.training import train
from txwatch.features.batch import Flags, Floats, TransactionBatch
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import network_buckets, network_contexts
from txwatch.features.transaction import moved_value, transaction_features
from txwatch.lab.evaluation.backtest import FollowedScoring
from txwatch.lab.evaluation.examination import SEED, START, compared, forest_alerts, planted
from txwatch.lab.evaluation.explanations import measure_explanations
from txwatch.lab.evaluation.replay import Labelled, network_columns, replay, replayed_features, simulate
from txwatch.lab.simulator.ordinary import BIG_SAT
from txwatch.lab.simulator.plants import label
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import Transaction


class Baseline:
    """The recipe of four raw numbers, fitted."""

    def __init__(self, train: Sequence[Transaction], seed: int = 42) -> None:
        from sklearn.ensemble import IsolationForest
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._pipeline = make_pipeline(StandardScaler(), IsolationForest(random_state=seed))
        self._pipeline.fit(self._features(train))

    def score(self, transactions: Sequence[Transaction]) -> Floats:
        """Higher is more unusual."""
        scores: Floats = -self._pipeline.score_samples(self._features(transactions))
        return scores

    @staticmethod
    def _features(transactions: Sequence[Transaction]) -> Floats:
        rows = [(tx.value_sat / SAT_PER_BTC, 0.0, tx.input_count, tx.output_count) for tx in transactions]
        return np.array(rows, np.float64).reshape(len(rows), 4)


REAL_MOVES = {label("whale"), label("dormant_round_move")}


def whale_figures(traffic: Labelled, truth: Flags, whale_btc: float) -> dict[str, Any]:
    """Precision, recall and false-positive rate of the rule, and of the one by total output. Shape of truth: (n,)."""
    batch = TransactionBatch.of(traffic.transactions)
    by_rule = moved_value(batch).likely >= whale_btc * SAT_PER_BTC
    by_total = batch.value_sat >= whale_btc * SAT_PER_BTC
    counts = {"n": int(truth.sum()), "transactions": len(traffic)}
    return counts | _rates(by_rule, truth) | {"baseline": _rates(by_total, truth)}


def simulated_truth(traffic: Labelled, whale_btc: float) -> Flags:
    """Which simulated transactions really moved that much.

    Raises ValueError below BIG_SAT, where what ordinary ones moved is not known.
    """
    if whale_btc * SAT_PER_BTC < BIG_SAT:
        raise ValueError(f"the simulator knows who moved {BIG_SAT / SAT_PER_BTC:g} BTC or more, not {whale_btc:g}")
    labelled = zip(traffic.transactions, traffic.labels, strict=True)
    return np.array(
        [known in REAL_MOVES and largest_output(tx) >= whale_btc * SAT_PER_BTC for tx, known in labelled], np.bool_
    )


def largest_output(tx: Transaction) -> int:
    """Satoshi."""
    return max(output.value for output in tx.outputs)


def _rates(found: Flags, truth: Flags) -> dict[str, float | None]:
    right = int((found & truth).sum())
    return {
        "precision": right / int(found.sum()) if found.any() else None,
        "recall": right / int(truth.sum()) if truth.any() else None,
        "false_positive_rate": float((found & ~truth).sum() / max(1, (~truth).sum())),
    }


@dataclass(frozen=True)
class Options:
    """What a figure depends on beside the data."""

    alerts_per_hour: float = 12.0
    transactions_per_hour: float = 19_800.0
    """Of the network on an ordinary day, 5.5 a second: captures say nothing reliable of their own rate."""
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

    Labelled transactions of the background, and those that a rule finds, are known: they are left out, not counted.
    """
    options = options or Options()
    context = capture_context(train_on.transactions)
    features = transaction_features(TransactionBatch.of(train_on.transactions), context)
    model = fitted_model(features, timedelta(hours=len(features) / options.transactions_per_hour), options)
    baseline = Baseline(train_on.transactions)
    detectors = default_detectors(whale_btc=options.whale_btc)
    ordinary = background.at(background.rows(None))
    unlabelled = beside_rules(ordinary, context, detectors)
    parts = [unlabelled, positives, planted(context.network.median_fee_rate_1h or 1.0)]
    features_of = [transaction_features(TransactionBatch.of(p.transactions), context) for p in parts]
    scores = [model.score(of_part) for of_part in features_of]
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

    found = {
        name: _found(score(part.transactions, context, model, detectors), part.labels)
        for name, part in zip(("background", "positives", "planted"), parts, strict=True)
    }
    captured = [*found["background"].items(), *found["positives"].items()]
    whales = {label: values["kinds"].get("whale", 0.0) for label, values in captured}
    return {
        "labels": figures_of(1),
        "whales": _whales(options) | {"captures": whales},
        "planted": figures_of(2),
        "explanations": measure_explanations(model, features_of[0], by_label(features_of[2], parts[2].labels)),
        "found": found,
        "known_cases": _known_cases(model, options),
        "data": {
            "train": len(train_on),
            "background": len(unlabelled),
            "background_labelled_left_out": len(background) - len(ordinary),
            "background_found_left_out": len(ordinary) - len(unlabelled),
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
    model = fitted_model(replayed_features(before), train_for, options)
    baseline = Baseline([tx for window in before for tx in window.transactions])
    transactions = [tx for window in after for tx in window.transactions]
    labels = traffic.labels[len(traffic) - len(transactions) :]
    scoring = FollowedScoring(model, default_detectors(whale_btc=options.whale_btc))
    scored = [s for window in after for s in scoring.score(window)]
    measured = Labelled(transactions, labels)
    no_rule = np.array([not any(reason.kind != "forest" for reason in score.reasons) for score in scored])
    ordinary = np.array([label is None for label in labels]) & no_rule
    features = replayed_features(after)
    return {
        "labels": compared(model.score(features), baseline.score(transactions), labels, ordinary, options.budget_rate),
        "explanations": measure_explanations(model, features[ordinary], by_label(features, labels)),
        "whales": whale_figures(measured, simulated_truth(measured, options.whale_btc), options.whale_btc),
        "found": {"simulated": _found(scored, labels)},
        "known_cases": _known_cases(model, options),
        "data": {
            "train": len(traffic) - len(transactions),
            "background": int(ordinary.sum()),
            "forest_alerts_per_hour": forest_alerts(scored) / (measure_for / timedelta(hours=1)),
            "budget_fpr": options.budget_rate,
        },
    }


def by_label(rows: Floats, labels: Sequence[str | None]) -> dict[str, Floats]:
    """The rows of each label."""
    known = np.array([label or "" for label in labels])
    return {label: rows[known == label] for label in sorted(set(known.tolist()) - {""})}


def capture_context(transactions: Sequence[Transaction]) -> Context:
    """The network as a capture shows it, all of it as one hour. Nothing is known of addresses."""
    window = window_start(transactions[0].seen_at)
    columns = replace(network_columns(transactions), seen=np.full(len(transactions), window.timestamp()))
    network = network_contexts(network_buckets(columns, [window]), [window])[0]
    return Context(replace(network, windows_24h=0))


def beside_rules(traffic: Labelled, context: Context, detectors: Sequence[Detector]) -> Labelled:
    """What no rule finds anything in."""
    batch = TransactionBatch.of(traffic.transactions)
    found = find_all(detectors, batch, transaction_features(batch, context))
    return traffic.at([row for row in range(len(traffic)) if row not in found])


def fitted_model(features: Floats, span: timedelta, options: Options) -> Model:
    """A model trained on these features, (transactions, features), as if they had come within `span`."""
    trained = train(
        features,
        START,
        START + span,
        alerts_per_hour=options.alerts_per_hour,
        whale_btc=options.whale_btc,
        seed=options.seed,
        min_rows=500,
    )
    return Model("evaluated", trained.pipeline, trained.card)


def _found(scored: Sequence[Score], labels: Sequence[str | None]) -> dict[str, Any]:
    """For each label: how many there are, the share that alerts, and the share in which each kind was found."""
    result: dict[str, Any] = {}
    names = [known or "unlabelled" for known in labels]
    for name in sorted(set(names)):
        rows = [s for s, known in zip(scored, names, strict=True) if known == name]
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


def _known_cases(model: Model, options: Options) -> dict[str, Any]:
    fee_rate = model.card.medians[FEATURE_NAMES.index("fee_rate")]
    detectors = default_detectors(whale_btc=options.whale_btc)
    found, silent = (judge_cases(cases, model, detectors) for cases in (incidents(), look_alikes(fee_rate)))
    return {
        "incidents_found": {verdict.case.name: verdict.right for verdict in found},
        "look_alikes_silent": {verdict.case.name: verdict.right for verdict in silent},
    }
