"""Compare ways to score on the same rows: `txwatch evaluate --detectors`.

All learn from the same rows of training, in which what rules account for is at its median, and all but the recipe of
four raw numbers see the same standardized features. What is asked: how many positives each finds at the rates at which
somebody lives, what a row costs, how large the fitted model is, and whether another seed finds the same.

PyOD brings five detectors of the literature, and is no part of what runs. Where it is not installed they are left out.
"""

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np

from txwatch.detection.accounting import likely_findings, without
from txwatch.detection.model import SAMPLES_PER_TREE, TREES, CompactForest, build_forest
from txwatch.detection.rules import default_detectors, find_all
from txwatch.detection.training import top_agreement
from txwatch.detection.voices import Neighbours, draw_references
from txwatch.features.batch import Floats, TransactionBatch
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.evaluate import Baseline, Options, beside_rules, capture_context, fitted_model
from txwatch.lab.evaluation.examination import RATES, START, figures, mean_recall_interval, planted
from txwatch.lab.evaluation.replay import Labelled, replay, replayed_features, simulate
from txwatch.wire.transaction import Transaction

_DRAWING = {"INNE", "LODA"}
"""Those of them that draw at random."""
BATCHES = (32, 1_000)
"""Rows: of a batch of the live lane on an ordinary day, and of one that catches up."""
_TIMED_SECONDS = 1.0
_TIMED_AT_LEAST = 3


@dataclass(frozen=True)
class Rows:
    """Transactions, and their features of shape (n, len(FEATURE_NAMES))."""

    features: Floats
    transactions: Sequence[Transaction]

    def __len__(self) -> int:
        return len(self.transactions)

    def at(self, places: slice) -> "Rows":
        """Those in these places."""
        return Rows(self.features[places], self.transactions[places])


@dataclass(frozen=True)
class Material:
    """What is learnt from, seen within `span`; what is ordinary; and by group and label what must be found."""

    train: Rows
    span: timedelta
    background: Rows
    wanted: Mapping[str, Mapping[str, Rows]]


@dataclass(frozen=True)
class Fitted:
    """A detector that has learnt: its scores of rows, higher for what is more unusual, and its size in bytes."""

    score: Callable[[Rows], Floats]
    size: int


@dataclass(frozen=True)
class Training:
    """The rows of training as detectors take them: `beside` what rules account for, and these `standardized`."""

    material: Material
    options: Options
    beside: Floats
    standardize: Callable[[Floats], Floats]
    standardized: Floats

    @classmethod
    def of(cls, material: Material, options: Options) -> "Training":
        """Prepare them, once for all detectors."""
        features = material.train.features
        known = np.where(np.isnan(features).all(axis=0), 0.0, features)
        accounted = likely_findings(features, whale_btc=options.whale_btc)
        beside = without(features, accounted, np.nanmedian(known, axis=0))
        standardize = CompactForest.of(build_forest(0, trees=1).fit(beside)).rows
        return cls(material, options, beside, standardize, standardize(beside))

    def of_standardized(self, score: Callable[[Floats], Floats], fitted: Any) -> Fitted:
        """A detector that scores standardized rows."""
        return Fitted(lambda rows: score(self.standardize(rows.features)), len(pickle.dumps(fitted)))


@dataclass(frozen=True)
class Candidate:
    """A detector to be: how it learns, by a seed, and whether the seed makes a difference."""

    name: str
    fit: Callable[[Training, int], Fitted]
    draws: bool = True


def _two_voices(training: Training, seed: int) -> Fitted:
    material = training.material
    model = fitted_model(material.train.features, material.span, replace(training.options, seed=seed))
    return Fitted(lambda rows: model.score(rows.features), len(pickle.dumps((model.pipeline, model.card.to_json()))))


def _forest(trees: int) -> Callable[[Training, int], Fitted]:
    def fit(training: Training, seed: int) -> Fitted:
        samples = min(SAMPLES_PER_TREE, len(training.beside))
        pipeline = build_forest(seed, trees=trees, samples=samples).fit(training.beside)
        forest = CompactForest.of(pipeline)
        return Fitted(lambda rows: forest.score(forest.rows(rows.features)), len(pickle.dumps(pipeline)))

    return fit


def _neighbours(training: Training, _: int) -> Fitted:
    neighbours = Neighbours(training.standardized[draw_references(len(training.standardized))])
    return training.of_standardized(neighbours.score, neighbours)


def _mahalanobis(training: Training, _: int) -> Fitted:
    from sklearn.covariance import EmpiricalCovariance

    covariance = EmpiricalCovariance().fit(training.standardized)
    return training.of_standardized(covariance.mahalanobis, covariance)


def _raw_numbers(training: Training, seed: int) -> Fitted:
    baseline = Baseline(training.material.train.transactions, seed)
    return Fitted(lambda rows: baseline.score(rows.transactions), len(pickle.dumps(baseline)))


def _quietly(call: Callable[[Floats], Any]) -> Callable[[Floats], Any]:
    """Without the warnings of PyOD's skewness about features that are the same in nearly all rows, as ours are."""

    def quiet(rows: Floats) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return call(rows)

    return quiet


def _of_pyod(name: str) -> Callable[[Training, int], Fitted]:
    def fit(training: Training, seed: int) -> Fitted:
        seeded = {"random_state": seed} if name in _DRAWING else {}
        detector = getattr(import_module(f"pyod.models.{name.lower()}"), name)(**seeded)
        _quietly(detector.fit)(training.standardized)
        return training.of_standardized(_quietly(detector.decision_function), detector)

    return fit


OWN = (
    Candidate("two voices", _two_voices),
    Candidate(f"forest, {TREES:,} trees", _forest(TREES)),
    Candidate("forest, 1,000 trees", _forest(1_000)),
    Candidate("neighbours", _neighbours, draws=False),
    Candidate("Mahalanobis", _mahalanobis, draws=False),
    Candidate("four raw numbers", _raw_numbers),
)
"""The model as it is, each of its voices alone, what is simpler than both, and the recipe before them."""
PYOD = tuple(Candidate(name, _of_pyod(name), name in _DRAWING) for name in ("ECOD", "COPOD", "HBOS", "INNE", "LODA"))


def compare_detectors(
    material: Material, options: Options, candidates: Sequence[Candidate] | None = None
) -> dict[str, Any]:
    """The figures of each detector, for JSON. `left_out` are those whose library is not installed."""
    there = find_spec("pyod") is not None
    training = Training.of(material, options)
    return {
        "detectors": {
            candidate.name: _measured(candidate, training)
            for candidate in (candidates or (OWN + PYOD if there else OWN))
        },
        "left_out": [] if there else [candidate.name for candidate in PYOD],
        "data": {
            "train": len(material.train),
            "background": len(material.background),
            "budget_fpr": options.budget_rate,
        },
    }


def _measured(candidate: Candidate, training: Training) -> dict[str, Any]:
    material, budget_rate, seed = training.material, training.options.budget_rate, training.options.seed
    fitted = candidate.fit(training, seed)
    background = fitted.score(material.background)
    agreement = 1.0
    if candidate.draws:
        agreement = top_agreement(background, candidate.fit(training, seed + 1).score(material.background))
    return {
        "groups": {
            group: _figures(background, {label: fitted.score(rows) for label, rows in wanted.items()}, budget_rate)
            for group, wanted in material.wanted.items()
        },
        "microseconds": {str(size): microseconds(fitted.score, material.background, size) for size in BATCHES},
        "bytes": fitted.size,
        "seed_agreement": agreement,
    }


def _figures(background: Floats, wanted: Mapping[str, Floats], budget_rate: float) -> dict[str, Any]:
    """Of each label, and their mean with its interval."""
    labels = {label: figures(background, scores, budget_rate) for label, scores in wanted.items()}
    mean: dict[str, Any] = {}
    for name, rate in ({"recall_at_budget_fpr": budget_rate} | RATES).items():
        mean[name] = float(np.mean([of_label[name] for of_label in labels.values()]))
        mean[f"{name}_interval"] = list(mean_recall_interval(background, list(wanted.values()), rate))
    return {"labels": labels, "mean": mean}


def microseconds(score: Callable[[Rows], Floats], rows: Rows, size: int) -> float:
    """CPU time of a row in batches of so many, in the fastest of several: others use the machine as well."""
    fastest, spent, done = np.inf, 0.0, 0
    while done < _TIMED_AT_LEAST or spent < _TIMED_SECONDS:
        first = done * size % max(1, len(rows) - size)
        batch = rows.at(slice(first, first + size))
        before = process_time()
        score(batch)
        took = process_time() - before
        fastest, spent, done = min(fastest, took / len(batch)), spent + took, done + 1
    return 1e6 * fastest


def captured(train_on: Labelled, background: Labelled, positives: Labelled, options: Options) -> Material:
    """Captures as `evaluate_captures` takes them. What must be found are their labels, and planted anomalies."""
    context, detectors = capture_context(train_on.transactions), default_detectors(whale_btc=options.whale_btc)

    def rows(traffic: Labelled) -> Rows:
        return Rows(transaction_features(TransactionBatch.of(traffic.transactions), context), traffic.transactions)

    def by_label(traffic: Labelled) -> dict[str, Rows]:
        return {name: rows(traffic.at(traffic.rows(name))) for name in sorted({x for x in traffic.labels if x})}

    return Material(
        rows(train_on),
        timedelta(hours=len(train_on) / options.transactions_per_hour),
        rows(beside_rules(background.at(background.rows(None)), context, detectors)),
        {"labels": by_label(positives), "planted": by_label(planted(context.network.median_fee_rate_1h or 1.0))},
    )


def simulated(
    regime: str, options: Options, *, train_for: timedelta, measure_for: timedelta, rate: float | None = None
) -> Material:
    """Simulated traffic: the first hours to learn from, plants and all, and the next ones to measure on."""
    traffic = simulate(regime, seed=options.seed, start=START, duration=train_for + measure_for, rate=rate)
    windows, until = list(replay(traffic.transactions)), START + train_for
    train, measured = (
        Rows(replayed_features(part), [tx for window in part for tx in window.transactions])
        for part in ([w for w in windows if w.start < until], [w for w in windows if w.start >= until])
    )
    labels = traffic.labels[len(train) :]
    detectors = default_detectors(whale_btc=options.whale_btc)
    found = [
        row in rows
        for window in windows
        if window.start >= until
        for rows in [find_all(detectors, window.batch, window.features)]
        for row in range(len(window.transactions))
    ]

    def those(wanted: str | None) -> Rows:
        own = [row for row, x in enumerate(labels) if x == wanted and (x is not None or not found[row])]
        return Rows(measured.features[own], [measured.transactions[row] for row in own])

    return Material(
        train, train_for, those(None), {"planted": {name: those(name) for name in sorted({x for x in labels if x})}}
    )
