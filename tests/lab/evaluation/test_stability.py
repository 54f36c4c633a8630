"""Ten seeds agree on what is most unusual, and what that costs."""

from itertools import combinations

import numpy as np
import pytest

from tests.modelling import features, fit
from txwatch.detection.model import TREES
from txwatch.detection.training import top_agreement


@pytest.mark.soak
def test_ten_seeds_agree_on_the_most_unusual_hundredth() -> None:
    rows, held_out = features(), features(seed=2)
    scores = [fit(rows, minutes=60, seed=seed, trees=TREES).score(held_out) for seed in range(0, 20, 2)]
    assert np.mean([top_agreement(a, b) for a, b in combinations(scores, 2)]) >= 0.9


def test_the_larger_forest_is_what_makes_seeds_agree() -> None:
    rows, held_out = features(minutes=20), features(seed=2, minutes=20)

    def agreement(trees: int) -> float:
        forests = (fit(rows, minutes=20, seed=seed, trees=trees).compact for seed in (0, 2))
        a, b = (forest.score(forest.rows(held_out)) for forest in forests)
        return top_agreement(a, b)

    assert agreement(TREES) > agreement(10)
