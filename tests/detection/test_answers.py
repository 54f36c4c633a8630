"""What is learnt from answers: ridge regression over leaves, moved ranks, and explanations that stay exact."""

from functools import cache

import numpy as np
import pytest

from tests.modelling import features, fit
from txwatch.detection.accounting import likely_findings
from txwatch.detection.answers import BASE, RIDGE, Answers, Taught, agreement, is_unseen, leaf_weights, learn
from txwatch.detection.explain import take_apart
from txwatch.detection.model import FEW_ROWS, Model, ModelCard
from txwatch.detection.training import TrainedModel, teach
from txwatch.features.contract import FEATURE_NAMES


def txids(n: int) -> list[str]:
    return [f"{n:064x}" for n in range(n)]


@cache
def voices() -> Model:
    """A model of twenty minutes, without answers."""
    return fit(features(minutes=20), minutes=20)


def taught(useful: np.ndarray, rows: np.ndarray) -> tuple[Model, Model]:
    """A model, and the same with these answers to these rows."""
    model = voices()
    lesson = Answers(txids(len(rows)), rows, useful)
    trained = teach(TrainedModel(model.pipeline, model.card), features(minutes=20), lesson, whale_btc=500)
    return model, trained.model("taught")


def unusual(n: int = 60) -> np.ndarray:
    """Of twenty minutes the n rows that score highest among those in which no rule finds anything."""
    rows = features(minutes=20)
    rows = rows[~likely_findings(rows, whale_btc=500).any(axis=1)]
    return rows[np.argsort(-voices().score(rows))[:n]]


def test_the_weights_are_those_of_ridge_regression_over_the_leaves() -> None:
    draws = np.random.default_rng(1)
    trees, n = 7, 30
    leaves = draws.integers(0, 4, (trees, n)) + 4 * np.arange(trees)[:, None]
    useful = draws.random(n) < 0.4
    indicators = np.zeros((n, 4 * trees))
    for of_tree in leaves:
        indicators[np.arange(n), of_tree] = 1 / np.sqrt(trees)
    target = np.where(useful, 1.0, -1.0)
    gram = indicators.T @ indicators + RIDGE * np.eye(4 * trees)
    expected = np.linalg.solve(gram, indicators.T @ target) / np.sqrt(trees)
    np.testing.assert_allclose(leaf_weights(leaves, learn(leaves, useful), 4 * trees), expected)


def test_what_is_like_noise_is_less_rare_and_what_is_like_a_useful_alert_is_rarer() -> None:
    rows = unusual()
    outputs = rows[:, FEATURE_NAMES.index("output_count")]
    useful = outputs < np.median(outputs)
    before, after = taught(useful, rows)
    exponents = after.exponents(rows)
    assert agreement(exponents, useful) > 0.95
    assert np.median(exponents[useful]) > 1.2
    assert np.median(exponents[~useful]) < 0.8
    assert (exponents < BASE).all()
    assert (exponents > 1 / BASE).all()
    np.testing.assert_allclose(after.log_shares(rows), before.log_shares(rows) * exponents)


def test_few_rows_and_many_are_moved_alike() -> None:
    rows = unusual()
    _, after = taught(np.arange(len(rows)) % 3 > 0, rows)
    many = np.concatenate([rows, features(minutes=20)[: 3 * FEW_ROWS]])
    np.testing.assert_allclose(after.exponents(many)[: len(rows)], after.exponents(rows))
    np.testing.assert_allclose(after.score(many)[: len(rows)], after.score(rows))


def test_the_threshold_keeps_the_budget_with_what_was_learnt() -> None:
    rows = unusual()
    before, after = taught(np.zeros(len(rows), np.bool_), rows)
    assert after.threshold < before.threshold, "what was noise makes room"
    assert len(after.card.highest_scores) == len(before.card.highest_scores)


def test_a_model_without_answers_scores_as_its_voices_do() -> None:
    rows = unusual()
    before, after = taught(np.arange(len(rows)) % 2 == 0, rows)
    assert np.array_equal(after.without_answers().score(rows), before.score(rows))
    assert (before.exponents(rows) == 1.0).all()


def test_the_steps_of_a_taught_model_add_up_to_its_score() -> None:
    rows = unusual(300)
    _, after = taught(np.arange(len(rows)) % 2 == 0, rows)
    steps_of, left = take_apart(after, rows, 6)
    forest, neighbours = after.log_shares(rows)
    assert (forest < neighbours).any()
    assert (neighbours < forest).any()
    for score, steps, rest in zip(after.score(rows), steps_of, left, strict=True):
        assert sum(step.lowers for step in steps) + rest == pytest.approx(score)
        assert all(step.lowers > 0 for step in steps)


def test_what_was_learnt_is_part_of_the_card() -> None:
    rows = unusual()
    _, after = taught(np.arange(len(rows)) % 2 == 0, rows)
    again = ModelCard.from_json(after.card.to_json())
    assert again == after.card
    assert np.array_equal(Model("again", after.pipeline, again).score(rows), after.score(rows))
    assert len(after.card.to_json()) < len(after.without_answers().card.to_json()) + 300 * len(rows)
    assert Taught().decoded().size == 0


def test_a_quarter_of_the_answers_is_never_learnt_from_and_always_the_same() -> None:
    generator = np.random.default_rng(1)
    names = [generator.bytes(32).hex() for _ in range(400)]
    answers = Answers(names, np.arange(400.0)[:, None], generator.random(400) < 0.5)
    learnt_from, kept = answers.split()
    assert len(learnt_from) + len(kept) == 400
    assert 70 <= len(kept) <= 130
    assert all(is_unseen(txid) for txid in kept.txids)
    assert not any(is_unseen(txid) for txid in learnt_from.txids)
    places = [names.index(txid) for txid in kept.txids]
    assert kept.features[:, 0].tolist() == places
    assert (kept.useful == answers.useful[places]).all()


def test_agreement_counts_pairs_in_order() -> None:
    useful = np.array([True, False, True, False])
    assert agreement(np.array([0.9, 0.1, 0.8, 0.2]), useful) == 1.0
    assert agreement(np.array([0.9, 0.9, 0.1, 0.2]), useful) == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert agreement(np.array([0.9, 0.8]), np.array([True, True])) is None
