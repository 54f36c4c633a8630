"""The page of a drift report: our decision first, Evidently's figures below."""

import numpy as np
import pytest

from tests.modelling import START, features
from txwatch.detection.drift import WATCHED, Reference
from txwatch.detection.drift_reports import drift_page
from txwatch.features.contract import FEATURE_NAMES


def test_the_page_says_what_was_decided_and_shows_the_distributions() -> None:
    rows = features(minutes=20)
    seen = START.timestamp() + np.linspace(0, 1_200, len(rows))
    recent = rows[::2].copy()
    recent[:, FEATURE_NAMES.index("fee_rate")] *= 2
    recent[:, FEATURE_NAMES.index("op_return_outputs")] = np.nan  # a column that Evidently would fail on
    drift = Reference(rows, seen).compare(recent)
    page = drift_page(drift, recent, rows, model_version="7", at=START)
    text = page.html
    assert page.evidently_share is not None
    assert 0 < page.evidently_share < 1
    assert page.left_out == ("op_return_outputs",)
    assert "Known too rarely for Evidently to compare: op_return_outputs." in text
    assert text.index("The traffic has changed") < text.index('<div id="root_metric')
    assert "model version 7" in text
    assert "<td>fee_rate</td>" in text


@pytest.mark.parametrize("known", [0, 1, 3])
def test_a_feature_that_hardly_any_row_has_is_named_and_costs_no_other(known: int) -> None:
    """Of 20,000 rows 5,000 are shown: what one of them knows may be known in none of those."""
    rows = np.resize(features(minutes=20), (20_000, len(FEATURE_NAMES)))
    recent = rows.copy()
    recent[known:, FEATURE_NAMES.index("fee_rate")] = np.nan
    recent[0, FEATURE_NAMES.index("value_sat")] = np.inf
    drift = Reference(rows, START.timestamp() + np.linspace(0, 1_200, len(rows))).compare(recent)
    assert drift.features[0].feature == "fee_rate"
    page = drift_page(drift, recent, rows, model_version="7", at=START)
    assert page.left_out == ("fee_rate",)
    assert page.evidently_share is not None


def test_a_page_without_anything_to_compare_still_says_what_was_decided() -> None:
    rows = features(minutes=20)
    recent = rows.copy()
    recent[:, list(WATCHED)] = np.nan
    drift = Reference(rows, START.timestamp() + np.linspace(0, 1_200, len(rows))).compare(recent)
    page = drift_page(drift, recent, rows, model_version="7", at=START)
    assert page.evidently_share is None
    assert set(page.left_out) == {FEATURE_NAMES[i] for i in WATCHED} - {"coin_days_destroyed"}
    assert "The traffic has changed" in page.html
