"""Explanations are faithful: without its reasons a transaction is ordinary, and a planted cause is among them."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.modelling import START, features, fit, model, traffic, windows
from txwatch.detection.accounting import accounted_for, without
from txwatch.detection.explain import TOP, explain
from txwatch.detection.model import Model
from txwatch.detection.reasons import feature_reason
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score_features
from txwatch.features.batch import TransactionBatch, WindowFeatures
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.evaluate import capture_context
from txwatch.lab.evaluation.replay import read_labelled

CAUSES = {
    "plant:coinjoin": {
        "equal_output_count",
        "equal_output_value_share",
        "output_entropy",
        "input_count",
        "output_count",
        "round_outputs",
    },
    "plant:dust_storm": {
        "dust_outputs",
        "equal_output_count",
        "equal_output_value_share",
        "output_count",
        "output_entropy",
    },
    "plant:fee_accident": {"fee_sat", "fee_rate_over_median_1h"},
}
"""What makes a plant of each kind unusual: see `txwatch.lab.simulator.plants`."""


def put_back(model: Model, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score of each row with its reasons' features at their medians."""
    changed = rows.copy()
    for row, reasons in zip(changed, explain(model, rows), strict=True):
        assert 1 <= len(reasons) <= TOP
        for reason in reasons:
            place = FEATURE_NAMES.index(reason.feature or "")
            row[place] = model.card.medians[place]
    return model.score(changed)


@pytest.mark.parametrize("times_budget", [1, 5])
def test_real_scores_fall_by_their_reasons_and_not_by_other_features(shared_data: Path, times_budget: int) -> None:
    capture = read_labelled([shared_data / "mempool-2024-03.jsonl.gz"])
    context, batch = capture_context(capture.transactions), TransactionBatch.of(capture.transactions)
    rows = transaction_features(batch, context)
    fitted = fit(rows, minutes=60 * len(rows) / 19_800, budget=12 * times_budget)
    detectors = default_detectors(whale_btc=500)
    window = WindowFeatures(context.network.as_of, capture.transactions, batch, rows, context)
    scores = score_features(window, fitted, detectors)
    flagged = [row for row, score in enumerate(scores) if score.score >= score.threshold]
    assert len(flagged) >= 4 * times_budget
    found = {row: [reason.kind for reason in scores[row].reasons if reason.kind != "forest"] for row in flagged}
    beside = without(rows, accounted_for(found, len(rows)), np.array(fitted.card.medians))[flagged]
    before, after = fitted.score(beside), put_back(fitted, beside)
    assert (after < before).all()
    others = beside.copy()
    draws = np.random.default_rng(1)
    for row, reasons in zip(others, explain(fitted, beside), strict=True):
        named = {FEATURE_NAMES.index(reason.feature or "") for reason in reasons}
        for place in draws.choice([i for i in fitted.compact.used if i not in named], len(named), replace=False):
            row[place] = fitted.card.medians[place]
    # As odds, because scores crowd together near 1.
    fall, of_others = (np.log((1 - left) / (1 - before)) for left in (after, fitted.score(others)))
    assert fall.mean() > 5 * of_others.mean()


def test_the_planted_cause_is_among_the_reasons() -> None:
    fitted, rows, labels = model(), features(), traffic().labels
    scores = fitted.score(rows)
    usual = np.quantile(scores, 0.99)
    for label, causes in CAUSES.items():
        flagged = [row for row, known in enumerate(labels) if known == label and scores[row] >= usual]
        if flagged:
            reasons = explain(fitted, rows[flagged])
            assert np.mean([of_row[0].feature in causes for of_row in reasons]) >= 0.95, label


def test_a_reason_says_value_percentile_and_direction() -> None:
    fitted, rows = model(), features()
    highest = rows[[int(fitted.score(rows).argmax())]]
    for reason in explain(fitted, highest)[0]:
        assert reason.kind == "forest"
        assert reason.value == highest[0, FEATURE_NAMES.index(reason.feature or "")]
        assert reason.percentile is not None
        direction = "more than" if reason.percentile >= 50 else "less than"
        assert f"({direction} " in reason.text
        assert reason.text.endswith(" % of transactions)")


def test_what_is_unknown_is_no_reason() -> None:
    fitted = model()
    rows = features()[np.argsort(-fitted.score(features()))[:50]].copy()
    unknown = FEATURE_NAMES.index("fee_sat")
    rows[:, unknown] = np.nan
    assert all(reason.feature != "fee_sat" for reasons in explain(fitted, rows) for reason in reasons)


def test_an_alert_of_a_rule_has_its_reason_first_and_the_forest_speaks_of_what_else_there_is() -> None:
    detectors, fitted = default_detectors(whale_btc=500), model()
    for window in windows(minutes=60)[:4]:
        for score in score_features(window, fitted, detectors):
            kinds = [reason.kind for reason in score.reasons]
            assert kinds == sorted(kinds, key=lambda kind: kind == "forest")
            assert START <= score.seen_at < START + timedelta(hours=1)


def test_a_count_of_one_reads_as_one() -> None:
    assert feature_reason("dust_outputs", 1.0, 94.5).text == "1 dust output (more than 94 % of transactions)"
    assert feature_reason("reused_addresses", 2.0, 99.5).text.startswith("2 addresses both spent from and paid to (")
    assert feature_reason("reused_addresses", 1.0, 99.5).text.startswith("1 address both spent from and paid to (")
