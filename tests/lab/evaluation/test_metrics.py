"""The figures of merit are those that scikit-learn computes, and the rates are never above what was asked for."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from txwatch.lab.evaluation.examination import auc, average_precision, recall_at


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
