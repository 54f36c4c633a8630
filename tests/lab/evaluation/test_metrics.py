"""The figures of merit are those that scikit-learn computes, and the rates are never above what was asked for."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from txwatch.lab.evaluation.examination import auc, average_precision, deciding_rate, recall_at, recall_interval


@pytest.mark.parametrize("decimals", [1, 8])
def test_auc_and_average_precision_are_scikit_learns(decimals: int) -> None:
    generator = np.random.default_rng(1)
    background = np.round(generator.normal(0, 1, 2_000), decimals)
    positives = np.round(generator.normal(1, 1, 100), decimals)
    truth = np.r_[np.zeros(2_000), np.ones(100)]
    scores = np.r_[background, positives]
    assert auc(background, positives) == pytest.approx(roc_auc_score(truth, scores))
    assert average_precision(background, positives) == pytest.approx(average_precision_score(truth, scores))


@pytest.mark.parametrize("rate", [0.0, 0.0006, 0.01, 0.5])
@pytest.mark.parametrize("decimals", [1, 8])
def test_no_more_of_the_background_passes_than_the_rate_allows(rate: float, decimals: int) -> None:
    background = np.round(np.random.default_rng(2).random(10_000), decimals)
    assert recall_at(background, background, rate) <= rate


def test_recall_counts_what_is_above_the_threshold() -> None:
    background = np.arange(100.0)
    assert recall_at(background, np.array([97.5, 98.0, 98.5, 200.0]), 0.01) == 0.5
    assert recall_at(background, np.array([99.5]), 0.0) == 1.0


def test_the_interval_of_a_recall_holds_the_truth_as_often_as_it_says() -> None:
    """Background and positives are normal, so that the recall at each rate is known."""
    generator = np.random.default_rng(3)
    truth = norm.sf(norm.isf(0.01) - 2.0)
    held = 0
    for _ in range(200):
        background, positives = generator.normal(size=5_000), generator.normal(2.0, size=300)
        low, high = recall_interval(background, positives, 0.01)
        assert low <= recall_at(background, positives, 0.01) <= high
        held += low <= truth <= high
    assert 180 <= held <= 199


@pytest.mark.parametrize(
    ("rows", "rate"), [(100_000, 0.0006), (16_667, 0.0006), (16_000, 0.002), (5_000, 0.002), (4_000, 0.01), (10, 0.01)]
)
def test_the_rate_that_is_judged_at_is_the_budgets_where_enough_rows_decide(rows: int, rate: float) -> None:
    assert deciding_rate(rows, 0.0006) == rate


def test_a_budget_above_one_in_a_hundred_is_judged_at_its_own_rate() -> None:
    assert deciding_rate(100, 0.05) == 0.05
