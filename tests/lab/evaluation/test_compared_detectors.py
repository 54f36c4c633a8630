"""Detectors are compared on the same rows, by figures whose answer is known."""

import json
import re
from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from txwatch.cli import app
from txwatch.detection.model import TREES
from txwatch.lab.evaluation import detectors
from txwatch.lab.evaluation.detectors import (
    OWN,
    PYOD,
    Candidate,
    Fitted,
    Material,
    Rows,
    Training,
    compare_detectors,
    microseconds,
    simulated,
)
from txwatch.lab.evaluation.evaluate import Options
from txwatch.lab.evaluation.examination import mean_recall_interval, recall_interval


@pytest.fixture(autouse=True)
def timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a row takes is not asked here."""
    monkeypatch.setattr(detectors, "_TIMED_SECONDS", 0.0)


@pytest.fixture(scope="module")
def material() -> Material:
    """Ten minutes, and ten more to measure on."""
    ten = timedelta(minutes=10)
    return simulated("2024-03", Options(), train_for=ten, measure_for=ten, rate=4)


def knowing(material: Material) -> Candidate:
    """Scores what must be found 1, and the background 0 to 0.5, by the number of its row."""
    place = {id(tx): row for row, tx in enumerate(material.background.transactions)}

    def score(rows: Rows) -> np.ndarray:
        return np.array([place[id(tx)] / len(place) / 2 if id(tx) in place else 1.0 for tx in rows.transactions])

    return Candidate("knows", lambda _, __: Fitted(score, 7), draws=False)


def guessing(_: Training, seed: int) -> Fitted:
    """Scores that have nothing to do with the rows."""
    draws = np.random.default_rng(seed)
    return Fitted(lambda rows: draws.random(len(rows)), 7)


def test_who_knows_finds_all_and_who_guesses_finds_as_many_as_the_rate_lets_through(material: Material) -> None:
    compared = compare_detectors(material, Options(), [knowing(material), Candidate("guesses", guessing)])
    knows, guesses = (compared["detectors"][name] for name in ("knows", "guesses"))
    mean = knows["groups"]["planted"]["mean"]
    assert mean["recall_at_budget_fpr"] == mean["recall_at_0_2pct_fpr"] == mean["recall_at_1pct_fpr"] == 1.0
    assert mean["recall_at_1pct_fpr_interval"] == [1.0, 1.0]
    assert guesses["groups"]["planted"]["mean"]["recall_at_1pct_fpr"] < 0.3
    assert (knows["seed_agreement"], knows["bytes"]) == (1.0, 7)
    assert guesses["seed_agreement"] < 0.2
    assert compared["data"]["background"] == len(material.background)


def test_what_is_simulated_is_learnt_from_before_it_is_measured(material: Material) -> None:
    last = max(tx.seen_at for tx in material.train.transactions)
    measured = [material.background, *material.wanted["planted"].values()]
    assert all(tx.seen_at > last for rows in measured for tx in rows.transactions)
    assert all(len(rows.features) == len(rows) for rows in measured)
    assert "plant:fee_accident" in material.wanted["planted"]


def test_every_detector_is_measured_as_one_json_object(material: Material) -> None:
    compared = json.loads(json.dumps(compare_detectors(material, Options())))
    assert compared["left_out"] == []
    assert list(compared["detectors"]) == [candidate.name for candidate in OWN + PYOD]
    for candidate in OWN + PYOD:
        figures = compared["detectors"][candidate.name]
        assert set(figures["microseconds"]) == {"32", "1000"}
        assert min(figures["microseconds"].values()) > 0
        assert figures["bytes"] > 0
        assert 0.0 <= figures["seed_agreement"] <= 1.0
        assert set(figures["groups"]["planted"]["labels"]) == set(material.wanted["planted"])
    size = {name: figures["bytes"] for name, figures in compared["detectors"].items()}
    assert size["Mahalanobis"] < size[f"forest, {TREES} trees"] < size["two voices"] < size["forest, 1,000 trees"]


def test_the_command_prints_all_and_says_what_is_left_out_without_pyod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "find_spec", lambda _: None)
    arguments = ["evaluate", "--detectors", "--train-hours=0.1", "--hours=0.1"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for candidate in OWN:
        assert len(re.findall(rf"│ {candidate.name} +│", result.stdout)) == 3, (
            "recall, recall by label, and what it costs"
        )
    assert "Left out, for PyOD is not installed: ECOD, COPOD, HBOS, INNE, LODA." in result.stdout


def test_a_row_is_timed_in_batches_of_the_size_asked_for() -> None:
    sizes = []

    def score(rows: Rows) -> np.ndarray:
        sizes.append(len(rows))
        return np.zeros(len(rows))

    rows = Rows(np.zeros((100, 1)), [None] * 100)  # type: ignore[list-item]
    assert microseconds(score, rows, 32) > 0
    assert set(sizes) == {32}
    assert len(sizes) >= 3


def test_the_interval_of_a_mean_is_narrower_than_that_of_one_kind_alone() -> None:
    generator = np.random.default_rng(3)
    background = generator.normal(size=100_000)
    kinds = [generator.normal(2.3, 1.0, 50) for _ in range(8)]
    low, high = mean_recall_interval(background, kinds, 0.01)
    alone = [recall_interval(background, kind, 0.01) for kind in kinds]
    assert high - low < min(high - low for low, high in alone)
    assert mean_recall_interval(background, kinds[:1], 0.01) == alone[0]
