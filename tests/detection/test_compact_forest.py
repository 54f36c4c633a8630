"""The flat arrays give scikit-learn's scores to the last digit, for any number of rows."""

import numpy as np
import pytest

from tests.modelling import features, model
from txwatch.detection.model import FEW_ROWS


@pytest.mark.parametrize("rows", [1, 2, 31, FEW_ROWS, FEW_ROWS + 1, 1_500])
def test_scores_are_those_of_scikit_learn(rows: int) -> None:
    batch = features()[-rows:].copy()
    batch[::3, ::5] = np.nan
    forest = model().compact
    assert (forest.score(forest.rows(batch)) == -model().pipeline.score_samples(batch)).all()


def test_a_score_does_not_depend_on_the_batch_that_it_is_in() -> None:
    rows = features()[:300]
    alone = np.concatenate([model().score(rows[i : i + 1]) for i in range(20)])
    assert (alone == model().score(rows)[:20]).all()


def test_no_rows_have_no_scores() -> None:
    assert model().score(features()[:0]).shape == (0,)
