"""Two voices speak as one: what either finds rare is rare, and their shares of a distance are exact."""

import numpy as np
import pytest

from tests.modelling import features, model
from txwatch.detection.voices import K, Neighbours, Rarity, combined, draw_references


def test_a_rarity_is_the_share_of_rows_at_or_above_a_score_and_falls_on_beyond_them() -> None:
    scores = np.random.default_rng(1).exponential(size=50_000)
    rarity = Rarity.of(scores)
    at = np.array([0.5, 1.0, 2.0, 4.0])
    assert np.exp(rarity.log_share(at)) == pytest.approx(np.exp(-at), rel=0.03)
    # Far beyond the highest row the tail of an exponential is exponential.
    assert rarity.log_share(np.array([14.0, 20.0])) == pytest.approx([-14.0, -20.0], rel=0.2)
    assert rarity.log_share(np.array([-1.0])) == [0.0]
    shares = rarity.log_share(np.linspace(0, 20, 1_000))
    assert (np.diff(shares) <= 0).all()


def test_what_is_far_beyond_the_training_still_differs() -> None:
    rarity = Rarity.of(np.random.default_rng(1).lognormal(size=5_000))
    scores = combined(rarity.log_share(np.geomspace(10, 1e5, 20))[None, :])
    assert (np.diff(scores) > 0).all()


@pytest.mark.parametrize("scores", [np.zeros(500), np.r_[np.zeros(499), 1.0], np.array([0.3])])
def test_rows_that_are_all_alike_are_ordinary(scores: np.ndarray) -> None:
    rarity = Rarity.of(scores)
    assert rarity.log_share(np.array([scores.min()])) == [0.0]
    assert rarity.log_share(np.array([5.0])) < -3


def test_the_rarer_voice_speaks() -> None:
    log_shares = np.log([[0.5, 1e-4, 1.0], [1e-4, 0.5, 1.0]])
    assert combined(log_shares) == pytest.approx([0.754, 0.754, 0.0], abs=0.001)


def test_the_distance_is_the_mean_to_the_nearest_and_its_parts_add_up() -> None:
    generator = np.random.default_rng(2)
    references, rows = generator.normal(size=(300, 5)), generator.normal(size=(40, 5))
    neighbours = Neighbours(references)
    squares = (references[None] - rows[:, None]) ** 2
    nearest = np.argsort(squares.sum(axis=2), axis=1)[:, :K]
    distances = np.sqrt(np.take_along_axis(squares.sum(axis=2), nearest, axis=1)).mean(axis=1)
    np.testing.assert_allclose(neighbours.score(rows), distances)
    parts = np.stack([squares[row, near].mean(axis=0) for row, near in enumerate(nearest)])
    np.testing.assert_allclose(neighbours.shares(rows), parts / parts.sum(axis=1, keepdims=True))
    assert neighbours.score(rows[:0]).shape == (0,)
    assert (neighbours.shares(references[[0] * 3]).sum(axis=1) <= 1 + 1e-12).all()


def test_a_reference_is_no_neighbour_of_itself() -> None:
    references = np.random.default_rng(2).normal(size=(300, 5))
    others = [Neighbours(np.delete(references, place, axis=0)).score(references[[place]])[0] for place in range(20)]
    np.testing.assert_allclose(Neighbours(references).score_references()[:20], others)


def test_references_are_rows_of_the_training_whatever_the_seed() -> None:
    assert sorted(draw_references(50).tolist()) == list(range(50))
    drawn = draw_references(100_000)
    assert len(set(drawn.tolist())) == len(drawn) < 10_000
    assert (drawn == draw_references(100_000)).all()


def test_each_voice_finds_what_the_other_misses() -> None:
    forest, neighbours = model().log_shares(features())
    rare = np.log(0.002)
    assert ((forest <= rare) & (neighbours > rare)).any()
    assert ((neighbours <= rare) & (forest > rare)).any()


def test_a_feature_that_the_references_do_not_know_makes_nothing_far() -> None:
    references, rows = np.random.default_rng(2).normal(size=(300, 5)), np.random.default_rng(3).normal(size=(40, 5))
    references[:, 2] = 0.0
    without = Neighbours(np.delete(references, 2, axis=1))
    np.testing.assert_allclose(Neighbours(references).score(rows), without.score(np.delete(rows, 2, axis=1)))
    assert (Neighbours(references).shares(rows)[:, 2] == 0).all()
