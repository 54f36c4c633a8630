"""Measure explanations: whether the planted cause is a reason, and whether the score falls without the reasons.

The second is the area under the removal curve (Samek et al., "Evaluating the visualization of what a deep neural
network has learned", 2017): features go back to their medians of training one by one, in the order of the explanation,
and what is left of the score is noted each time. The sooner it falls the smaller the area; random orders are beside it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.explain import TOP, explain, take_apart
from txwatch.detection.model import Model
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES

Orders = NDArray[np.intp]

CAUSES: Mapping[str, frozenset[str]] = {
    "plant:coinjoin": frozenset(
        {
            "equal_output_count",
            "equal_output_value_share",
            "output_entropy",
            "input_count",
            "output_count",
            "round_outputs",
        }
    ),
    "plant:dust_storm": frozenset(
        {"dust_outputs", "equal_output_count", "equal_output_value_share", "output_count", "output_entropy"}
    ),
    "plant:fee_accident": frozenset({"fee_sat", "fee_rate_over_median_1h"}),
    "plant:whale": frozenset({"moved_sat", "coin_days_destroyed"}),
    "plant:dormant_round_move": frozenset({"moved_sat", "round_outputs", "coin_days_destroyed"}),
}
"""What makes a plant of each kind unusual (`txwatch.lab.simulator.plants`), of what the forest sees."""
UNUSUAL_SHARE = 0.01
"""Of the background: what scores as high as its highest hundredth is explained, what is ordinary has no cause."""
CURVES_AT_MOST = 100
"""Rows of each kind."""
_RANDOM_ORDERS = 5


def measure_explanations(model: Model, background: Floats, planted: Mapping[str, Floats]) -> dict[str, Any]:
    """Of each kind in CAUSES: how many are planted and unusual, and how well these are explained.

    All features have shape (n, len(FEATURE_NAMES)). `first` and `first_three` are the shares with a planted cause as
    first reason and among the first TOP; the areas are from 0 to 1. None where nothing is unusual.
    """
    threshold = float(np.quantile(model.score(background), 1 - UNUSUAL_SHARE))
    kinds = {}
    for label in sorted(planted.keys() & CAUSES.keys()):
        unusual = planted[label][model.score(planted[label]) >= threshold]
        kinds[label] = {"n": len(planted[label]), "unusual": len(unusual)} | _explained(model, unusual, CAUSES[label])
    return kinds


def _explained(model: Model, unusual: Floats, causes: frozenset[str]) -> dict[str, float | None]:
    if not len(unusual):
        return dict.fromkeys(("first", "first_three", "removal_area", "random_area"))
    named = [[reason.feature in causes for reason in reasons] for reasons in explain(model, unusual)]
    rows, medians = unusual[:CURVES_AT_MOST], np.array(model.card.medians)
    generator, used = np.random.default_rng(0), model.compact.used
    at_random = [
        removal_area(model.score, rows, generator.permuted(np.tile(used, (len(rows), 1)), axis=1), medians)
        for _ in range(_RANDOM_ORDERS)
    ]
    return {
        "first": float(np.mean([any(of_row[:1]) for of_row in named])),
        "first_three": float(np.mean([any(of_row[:TOP]) for of_row in named])),
        "removal_area": removal_area(model.score, rows, explained_orders(model, rows), medians),
        "random_area": float(np.mean(at_random)),
    }


def explained_orders(model: Model, features: Floats) -> Orders:
    """The features that the model sees, for each row in the order of its explanation; unexplained ones come last."""
    used = model.compact.used.tolist()
    steps_of, _ = take_apart(model, features, len(used))
    orders = []
    for steps in steps_of:
        first = [FEATURE_NAMES.index(step.feature) for step in steps]
        orders.append(first + [feature for feature in used if feature not in first])
    return np.array(orders, np.intp)


def removal_area(score: Callable[[Floats], Floats], features: Floats, orders: Orders, medians: Floats) -> float:
    """The mean area under the curve of what is left of each row's score, by the share of features removed.

    `orders` has shape (n, features to remove). The trapezoid rule over the steps; what is left is relative to the score
    before.
    """
    rows, current = np.arange(len(features)), features.copy()
    left = [score(current)]
    for feature in orders.T:
        current[rows, feature] = medians[feature]
        left.append(score(current))
    curve = np.array(left) / left[0]
    return float(((curve[1:] + curve[:-1]) / 2).mean())
