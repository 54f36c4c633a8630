"""A simulated day: within the budget, with everything delivered that must be. The whole day is a soak test."""

from math import sqrt
from typing import Any

import pytest

from txwatch.detection.kinds import Severity
from txwatch.lab.evaluation.day import PLANTS_PER_HOUR, DayOptions, evaluate_day
from txwatch.rules.parse import comparison
from txwatch.rules.rule import Rule


def check(result: dict[str, Any], options: DayOptions) -> None:
    with_plants, without = result["with_plants"], result["without_plants"]
    assert result["plants_per_hour"] == PLANTS_PER_HOUR
    assert with_plants["undelivered"] == []
    for kind in ("fee_accident", "whale"):
        figures = with_plants["kinds"][kind]
        assert figures["planted"] >= 1
        assert figures["recall"] == 1.0
        assert figures["sent_alone"] + figures["in_digests"] == figures["alerts"] == figures["found"]
    assert with_plants["kinds"]["fee_accident"]["precision"] == 1.0
    assert with_plants["kinds"]["whale"]["precision"] >= 0.95
    assert with_plants["kinds"]["coinjoin"]["recall"] >= 0.98
    assert with_plants["kinds"]["dormant_round_move"]["recall"] == 1.0
    assert with_plants["kinds"]["dust_storm"]["recall"] == 1.0
    expected = options.alerts_per_hour * options.hours
    # The alerts are counted, and so were the ones that the threshold was read from.
    noise = sqrt(expected + expected**2 / (options.alerts_per_hour * options.train_hours))
    for day in (with_plants, without):
        forest = day["forest_alerts_per_hour"] * options.hours
        assert forest <= expected + max(0.2 * expected, 3 * noise), "the budget, but for chance"
    detectors = sum(without["kinds"].get(kind, {}).get("alerts", 0) for kind in ("fee_accident", "whale"))
    assert detectors <= 0.05 * options.hours, "without plants the rules have nothing to say"


def test_two_hours_deliver_every_planted_accident_and_whale_within_the_budget() -> None:
    rules = (
        Rule("large", "Large", Severity.low, comparison("kind = whale"), alerts_per_hour=1_000),
        Rule("mixed", "Mixed", Severity.low, comparison("kind = coinjoin"), alerts_per_hour=2),
    )
    options = DayOptions(hours=2, train_hours=3, warm_hours=3, rate=2.0, trees=200, rules=rules)
    result = evaluate_day(options)
    check(result, options)
    kinds = result["with_plants"]["kinds"]
    assert kinds["rule:large"]["found"] == kinds["rule:large"]["alerts"] == kinds["whale"]["found"]
    assert kinds["rule:mixed"]["found"] == kinds["coinjoin"]["found"] > 4, "found beyond its cap as well"


@pytest.mark.soak
def test_a_day_delivers_every_planted_accident_and_whale_within_the_budget() -> None:
    options = DayOptions()
    check(evaluate_day(options), options)
