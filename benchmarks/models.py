"""Scoring rate by batch size, the cost of an explanation, and training time against rows.

Scoring is the whole path: features from the transactions, detectors, forest, threshold, reasons. The baseline is what
is commonly written, a DataFrame of one row for each transaction through scikit-learn's pipeline. The limit is the
forest alone, on features that are there already.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.explain import explain
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score
from txwatch.detection.training import train
from txwatch.features.batch import WindowFeatures
from txwatch.features.contract import FEATURE_NAMES
from txwatch.lab.evaluation.replay import replay, replayed_features, simulate

if TYPE_CHECKING:
    from benchmarks.harness import Bench, Measurement

START = datetime(2024, 3, 14, tzinfo=UTC)
MINUTES = 60
BATCHES = (1, 32, 1_000, 100_000)
TRAINED_ROWS = (5_000, 20_000, 80_000, 320_000)
EXPLAINED = 50
BASELINE_ROWS = 20
SECONDS = 1.5

Figures = dict[str, dict[str, Any]]


def measure(bench: "Bench") -> "Iterator[Measurement]":
    """All of it, for the harness."""
    from benchmarks.harness import Measurement

    windows = list(replay(simulate("2024-03", seed=1, start=START, duration=timedelta(minutes=MINUTES)).transactions))
    features = replayed_features(windows)
    model = trained(features)
    for figures in (
        scoring(model, windows, bench.size(BATCHES[-1])),
        explanations(model, features),
        training(features, [bench.size(rows) for rows in TRAINED_ROWS]),
    ):
        for name, figure in figures.items():
            yield Measurement(name, **figure)


def scoring(model: Model, windows: list[WindowFeatures], largest: int = BATCHES[-1]) -> Figures:
    """Transactions a second in batches of each size."""
    detectors = default_detectors(whale_btc=500)
    context, transactions = windows[-1].context, [tx for window in windows[3:] for tx in window.transactions]
    features = replayed_features(windows[3:])
    one_by_one = 1 / seconds_each(lambda i: _as_frame(model, features[i]), BASELINE_ROWS)
    figures: Figures = {}
    for size in (*BATCHES[:-1], largest):
        copies = -(-size // len(transactions))
        batch, rows = (transactions * copies)[:size], np.concatenate([features] * copies)[:size]
        whole = size / best(lambda batch=batch: score(batch, context, model, detectors))
        alone = size / best(lambda rows=rows: model.score(rows))
        figures[f"scoring_batch_{size}"] = {
            "value": whole,
            "unit": "tx/s",
            "baseline": one_by_one,
            "limit": alone,
            "why": "a DataFrame for each; the forest alone",
        }
    figures["forest_one_row"] = {
        "value": 1_000 * best(lambda: model.score(features[:1])),
        "unit": "ms",
        "baseline": 1_000 * best(lambda: model.pipeline.score_samples(features[:1])),
        "why": "scikit-learn's own call",
    }
    return figures


def explanations(model: Model, features: NDArray[np.float64]) -> Figures:
    """Milliseconds for the reasons of one alert, alone, and of many at once."""
    highest = features[np.argsort(-model.score(features))[:EXPLAINED]]
    return {
        "explanation_alone": {
            "value": 1_000 * best(lambda: explain(model, highest[:1])),
            "unit": "ms",
            "at_most": 50.0,
            "why": "three rounds over the features that the forest sees",
        },
        "explanation_among_50": {
            "value": 1_000 * best(lambda: explain(model, highest)) / EXPLAINED,
            "unit": "ms",
        },
    }


def training(features: NDArray[np.float64], rows: list[int]) -> Figures:
    """Seconds of training, its second forest for the check of stability included."""
    copies = np.concatenate([features] * -(-max(rows) // len(features)))
    figures: Figures = {}
    for n in rows:
        began = time.perf_counter()
        trained(copies[:n])
        figures[f"training_{n}_rows"] = {"value": time.perf_counter() - began, "unit": "s"}
    return figures


def trained(features: NDArray[np.float64]) -> Model:
    """A model of these rows, with the product's parameters."""
    end = START + timedelta(hours=len(features) / 19_800)
    result = train(features, START, end, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=100)
    return Model("bench", result.pipeline, result.card)


def best(action: Callable[[], object], seconds: float = SECONDS) -> float:
    """The shortest time of one call, of as many as fit: what else the machine does only makes a call longer."""
    shortest, until = np.inf, time.perf_counter() + seconds
    while shortest == np.inf or time.perf_counter() < until:
        began = time.perf_counter()
        action()
        shortest = min(shortest, time.perf_counter() - began)
    return float(shortest)


def seconds_each(action: Callable[[int], object], count: int) -> float:
    """The mean time of a call."""
    began = time.perf_counter()
    for i in range(count):
        action(i)
    return (time.perf_counter() - began) / count


def _as_frame(model: Model, row: NDArray[np.float64]) -> object:
    import pandas as pd

    return model.pipeline.score_samples(pd.DataFrame([row], columns=list(FEATURE_NAMES)).to_numpy())
