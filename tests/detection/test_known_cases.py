"""Golden incidents are found for the right reason, and look-alikes do not alert, whatever month taught the model."""

import pytest

from tests.modelling import REGIMES, model
from txwatch.detection.known_cases import incidents, judge_cases, look_alikes
from txwatch.detection.rules import default_detectors
from txwatch.features.contract import FEATURE_NAMES

DETECTORS = default_detectors(whale_btc=500)


@pytest.mark.parametrize("regime", REGIMES)
def test_every_golden_incident_is_found(regime: str) -> None:
    verdicts = judge_cases(incidents(), model(regime, minutes=20), DETECTORS)
    assert [verdict.case.name for verdict in verdicts if not verdict.right] == []
    assert len(verdicts) == 16


@pytest.mark.parametrize("regime", REGIMES)
def test_no_look_alike_alerts(regime: str) -> None:
    trained = model(regime, minutes=20)
    fee_rate = trained.card.medians[FEATURE_NAMES.index("fee_rate")]
    verdicts = judge_cases(look_alikes(fee_rate), trained, DETECTORS)
    assert [(verdict.case.name, verdict.kinds) for verdict in verdicts if not verdict.right] == []


def test_a_coinjoin_is_unusual_by_the_forest_and_accounted_for_by_its_tag() -> None:
    trained = model(minutes=20)
    sixty = next(case for case in look_alikes(15.0) if case.name.startswith("a coinjoin of sixty"))
    [with_tag] = judge_cases([sixty], trained, DETECTORS)
    [without] = judge_cases([sixty], trained, [])
    assert with_tag.first is None
    assert without.first == "forest"
