"""Explanations are measured: by curves whose area is known, and on plants whose cause is."""

import numpy as np
import pytest

from tests.modelling import features, fit, model, traffic
from txwatch.detection.model import Model
from txwatch.features.contract import FEATURE_NAMES, FEATURES
from txwatch.lab.evaluation.evaluate import by_label
from txwatch.lab.evaluation.explanations import CAUSES, explained_orders, measure_explanations, removal_area
from txwatch.lab.simulator.plants import BUILDERS, label


def weighted(rows: np.ndarray) -> np.ndarray:
    """A score of three features that count 6, 3 and 1."""
    return rows @ np.array([6.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("order", "curve"),
    [
        ([0, 1, 2], [1.0, 0.4, 0.1, 0.0]),  # the best first: the least area that there is
        ([2, 1, 0], [1.0, 0.9, 0.6, 0.0]),
        ([1, 0, 2], [1.0, 0.7, 0.1, 0.0]),
    ],
)
def test_the_area_is_that_under_what_is_left_of_the_score(order: list[int], curve: list[float]) -> None:
    rows = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    area = removal_area(weighted, rows, np.array([order, order]), np.zeros(3))
    assert area == pytest.approx(np.trapezoid(curve, dx=1 / 3))
    assert (rows == [[1.0] * 3, [2.0] * 3]).all(), "the rows stay as they are"


def one_cause(feature: str, n: int) -> tuple[Model, np.ndarray, np.ndarray]:
    """A model of rows whose features are independent, rows like them, and n of these with one that is extreme."""
    draws = np.random.default_rng(1)
    rows = draws.lognormal(1.0, 0.3, (6_000, len(FEATURE_NAMES)))
    extreme = rows[:n].copy()
    extreme[:, FEATURE_NAMES.index(feature)] = 1e9
    return fit(rows, minutes=20), rows[3_000:], extreme


def test_the_only_cause_is_the_first_reason_and_all_of_the_curve() -> None:
    fitted, background, extreme = one_cause("moved_sat", 40)
    figures = measure_explanations(fitted, background, {"plant:whale": extreme})["plant:whale"]
    assert (figures["n"], figures["unusual"]) == (40, 40)
    assert figures["first"] == figures["first_three"] == 1.0
    assert figures["removal_area"] < 0.75 * figures["random_area"]
    orders = explained_orders(fitted, extreme)
    assert (orders[:, 0] == FEATURE_NAMES.index("moved_sat")).all()
    seen = [i for i, feature in enumerate(FEATURES) if feature.forest]
    assert all(sorted(order) == seen for order in orders.tolist()), "each feature is taken away once"


def test_a_cause_that_nobody_planted_is_not_counted() -> None:
    fitted, background, extreme = one_cause("op_return_outputs", 40)
    figures = measure_explanations(fitted, background, {"plant:fee_accident": extreme})["plant:fee_accident"]
    assert figures["unusual"] == 40
    assert figures["first"] == 0.0


def test_what_is_ordinary_is_not_explained() -> None:
    fitted, background, _ = one_cause("fee_sat", 1)
    ordinary = np.tile(fitted.card.medians, (3, 1))
    figures = measure_explanations(fitted, background, {"plant:whale": ordinary, "coinjoin:other": ordinary})
    assert figures == {
        "plant:whale": {"n": 3, "unusual": 0} | dict.fromkeys(("first", "first_three", "removal_area", "random_area"))
    }


def test_planted_causes_are_among_the_first_three_and_taking_them_away_beats_chance() -> None:
    rows, labels = features(seed=2), traffic(seed=2).labels
    background = rows[[known is None for known in labels]]
    kinds = measure_explanations(model(), background, by_label(rows, labels))
    assert kinds.keys() == CAUSES.keys() == {label(kind) for kind in BUILDERS}
    explained = {kind: figures for kind, figures in kinds.items() if figures["unusual"] >= 10}
    assert {"plant:coinjoin", "plant:fee_accident", "plant:dust_storm"} <= explained.keys()
    for kind, figures in explained.items():
        assert figures["first_three"] >= 0.95, kind
        assert figures["removal_area"] < 0.75 * figures["random_area"], kind
