"""The page of a drift report: our decision first, Evidently's figures below."""

import numpy as np

from tests.modelling import START, features
from txwatch.detection.drift import Reference
from txwatch.detection.drift_page import drift_page
from txwatch.features.contract import FEATURE_NAMES


def test_the_page_says_what_was_decided_and_shows_the_distributions() -> None:
    rows = features(minutes=20)
    seen = START.timestamp() + np.linspace(0, 1_200, len(rows))
    recent = rows[::2].copy()
    recent[:, FEATURE_NAMES.index("fee_rate")] *= 2
    recent[:, FEATURE_NAMES.index("op_return_outputs")] = np.nan  # a column that Evidently would fail on
    drift = Reference(rows, seen).compare(recent)
    text, share = drift_page(drift, recent, rows, model_version="7", at=START)
    assert 0 < share < 1
    assert text.index("The traffic has changed") < text.index('<div id="root_metric')
    assert "model version 7" in text
    assert "<td>fee_rate</td>" in text
