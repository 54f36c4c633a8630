"""The alert budget: what is promised of it, on scores and on simulated traffic."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from tests.modelling import START, features, fit, windows
from txwatch.clock import WINDOW
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score_features
from txwatch.detection.threshold import (
    SPAN,
    RecentScores,
    arrivals_per_hour,
    budget_threshold,
    following_threshold,
    highest,
)
from txwatch.features.batch import WindowFeatures
from txwatch.features.context import NetworkContext
from txwatch.lab.evaluation.backtest import FollowedScoring
from txwatch.lab.evaluation.replay import replay, replayed_features, simulate

BUDGET = 12.0
RATE = 20_000.0


def reached(scores: np.ndarray, threshold: float) -> int:  # type: ignore[type-arg]
    return int((scores >= threshold).sum())


def test_on_the_day_itself_the_budget_is_kept_exactly() -> None:
    scores = np.random.default_rng(1).beta(2, 9, 480_000)
    assert reached(scores, budget_threshold(highest(scores, len(scores)), len(scores), RATE, BUDGET)) == 288


@pytest.mark.parametrize("times_rate", [1.0, 2.0, 0.5])
def test_on_the_next_day_and_at_other_rates_it_is_kept_within_its_noise(times_rate: float) -> None:
    generator = np.random.default_rng(2)
    fitted = generator.beta(2, 9, 480_000)
    next_day = generator.beta(2, 9, int(480_000 * times_rate))
    threshold = budget_threshold(highest(fitted, len(fitted)), len(fitted), RATE * times_rate, BUDGET)
    assert reached(next_day, threshold) == pytest.approx(288, rel=0.2)


def followed(recent: np.ndarray) -> float:  # type: ignore[type-arg]
    """The threshold of a fitted day after hours with these scores."""
    fitted = np.random.default_rng(2).beta(2, 9, 480_000)
    return following_threshold(
        highest(fitted, len(fitted)), len(fitted), RATE, BUDGET, RecentScores(len(recent), highest(recent, len(recent)))
    )


@pytest.mark.parametrize("raised", [0.0, 0.02, 0.04])
def test_where_recent_scores_are_higher_the_threshold_follows(raised: float) -> None:
    """They are in the hours after a day of training that was not whole: the budget holds all the same."""
    generator = np.random.default_rng(3)
    threshold = followed(raised + generator.beta(2, 9, 60_000))
    later = [reached(raised + generator.beta(2, 9, 20_000), threshold) for _ in range(20)]
    assert np.mean(later) == pytest.approx(BUDGET, rel=0.35), "within the noise of 36 recent alerts, twice"


def test_a_flood_of_ordinary_transactions_does_not_lower_it() -> None:
    """It would make the share that may alert one of more."""
    ordinary = np.full(10_000_000, 0.1)
    trained = followed(np.empty(0))
    assert followed(ordinary) == trained
    assert followed(np.r_[ordinary, np.random.default_rng(3).beta(2, 9, 60_000)]) == trained


def test_a_storm_raises_it_no_further_than_to_a_quarter_of_the_budget() -> None:
    storm = np.r_[np.random.default_rng(3).beta(2, 9, 60_000), np.full(100_000, 0.99)]
    fitted = np.random.default_rng(2).beta(2, 9, 480_000)
    assert followed(storm) == budget_threshold(highest(fitted, len(fitted)), len(fitted), RATE, BUDGET / 4)
    assert reached(np.random.default_rng(4).beta(2, 9, 480_000), followed(storm)) == pytest.approx(72, abs=3 * 72**0.5)


def test_less_than_an_hour_decides_nothing() -> None:
    high = 0.05 + np.random.default_rng(3).beta(2, 9, 19_999)
    assert followed(high) == followed(np.empty(0)) < followed(np.r_[high, high[:1]])


def test_ties_never_overspend_the_budget() -> None:
    scores = np.r_[np.full(1_000, 0.7), np.full(5, 0.9), np.linspace(0.1, 0.5, 100_000)]
    threshold = budget_threshold(highest(scores, len(scores)), len(scores), RATE, BUDGET)
    assert threshold == 0.9
    all_alike = np.full(50_000, 0.6)
    assert reached(all_alike, budget_threshold(highest(all_alike, 50_000), 50_000, RATE, BUDGET)) == 0


def test_a_share_below_one_row_is_the_highest_score() -> None:
    scores = np.linspace(0.1, 0.8, 500)
    assert budget_threshold(highest(scores, 500), 500, RATE, BUDGET) == 0.8


def test_the_rate_is_that_of_the_trailing_hour_scaled_up_while_less_is_known() -> None:
    assert arrivals_per_hour(NetworkContext(START, 1, tx_count_1h=18_000, windows_24h=288)) == 18_000
    assert arrivals_per_hour(NetworkContext(START, 1, tx_count_1h=3_000, windows_24h=2)) == 18_000
    assert arrivals_per_hour(NetworkContext(START, 0)) is None


def test_training_takes_its_threshold_beside_what_findings_account_for() -> None:
    """Without that, dust storms and coinjoins would spend the budget, and the forest's own alerts would be none."""
    model = fit(features(), minutes=60)
    alerts = forest_alerts(model, windows())
    assert alerts == pytest.approx(BUDGET, abs=3 * np.sqrt(BUDGET))
    assert reached(model.score(features()), model.threshold) > 3 * alerts


def forest_alerts(model: Model, replayed: list[WindowFeatures]) -> int:
    detectors = default_detectors(whale_btc=500)
    return sum(score.score >= score.threshold for w in replayed for score in score_features(w, model, detectors))


@pytest.mark.soak
@pytest.mark.parametrize("times_rate", [1.0, 2.0])
def test_a_threshold_of_one_day_keeps_the_budget_on_the_next(times_rate: float) -> None:
    """The context of the first hours of each day is left out: it fills up, as after a start.

    Ten times the default budget is counted as well: twelve an hour are few enough for chance to hide a flaw.
    """
    hours, warm_up = 5, 2

    def day(seed: int, rate: float) -> list[WindowFeatures]:
        traffic = simulate(
            "2024-03", seed=seed, start=START, duration=timedelta(hours=hours), rate=rate, plants_per_hour={}
        )
        return [w for w in replay(traffic.transactions) if w.start >= START + timedelta(hours=warm_up)]

    fitted = fit(replayed_features(day(1, 5.5)), minutes=60 * (hours - warm_up))
    next_day = day(2, 5.5 * times_rate)
    for budget in (BUDGET, 10 * BUDGET):
        card = msgspec.structs.replace(fitted.card, alerts_per_hour=budget)
        counted = forest_alerts(replace(fitted, card=card), next_day)
        expected = budget * (hours - warm_up)
        # Of the count, and of the quantile, which rests on fewer scores the more traffic shares the budget: 95 %.
        noise = 2 * np.sqrt(1 / expected + times_rate / expected)
        assert counted == pytest.approx(expected, rel=max(0.2, noise))


@pytest.mark.soak
def test_after_six_cold_hours_the_budget_holds_in_the_next_six() -> None:
    """What addresses did in the trailing day still fills up, and scores rise. Without following them the forest spends
    the budget almost one and a half times.

    Ten times the default budget is counted as well, as above.
    """
    hours, trained_on = 12, 6
    traffic = simulate("2024-03", seed=5, start=START, duration=timedelta(hours=hours), plants_per_hour={})
    replayed = list(replay(traffic.transactions))
    begins = START + timedelta(hours=trained_on)
    before = [w for w in replayed if w.start < begins]
    fitted = fit(replayed_features(before), minutes=60 * trained_on)
    for budget in (BUDGET, 10 * BUDGET):
        model = replace(fitted, card=msgspec.structs.replace(fitted.card, alerts_per_hour=budget))
        scoring = FollowedScoring(model, default_detectors(whale_btc=500))
        followed = unfollowed = 0
        for window in replayed:
            if window.start < begins - SPAN - 2 * WINDOW:  # the window lane scores the history too
                continue
            scores = scoring.score(window)
            if window.start >= begins:
                trained = model.threshold_at(arrivals_per_hour(window.context.network))
                followed += sum(s.score >= s.threshold for s in scores)
                unfollowed += sum(s.score >= trained for s in scores)
        expected = budget * (hours - trained_on)
        print(f"budget {expected:g}: {followed} alerts, {unfollowed} without following")
        # Of the count, 95 %, and that of the quantile of three hours' scores, twice.
        assert followed == pytest.approx(expected, abs=2 * np.sqrt(expected + expected**2 / (2 * 3 * budget)))
        assert unfollowed > 1.25 * expected
