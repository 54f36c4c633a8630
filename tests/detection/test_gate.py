"""The gate: a worse challenger is refused with reasons, a better one passes, and a first one is not compared."""

from dataclasses import replace

import numpy as np
import pytest

from tests.modelling import features, fit, model, traffic, windows
from txwatch.detection.gate import CHECKS, Feedback, GateCheck, ModelResult, judge, judge_answers, passes
from txwatch.detection.model import Model
from txwatch.detection.training import top_agreement
from txwatch.features.batch import WindowFeatures
from txwatch.lab.evaluation.examination import examine


def held_out() -> list[WindowFeatures]:
    """Twenty minutes that no model of these tests was trained on, after a warm-up of their own."""
    return windows(seed=2, minutes=60)[-4:]


def show(*models: Model) -> list[ModelResult]:
    return examine(models, held_out(), whale_btc=500)


def failed(checks: list[GateCheck]) -> dict[str, str]:
    return {check.name: check.reason for check in checks if not check.passed}


@pytest.fixture(scope="module")
def good() -> ModelResult:
    return show(model())[0]


def test_a_first_model_that_learnt_from_like_traffic_passes(good: ModelResult) -> None:
    checks = judge(good, None)
    assert [check.name for check in checks] == list(CHECKS)
    assert failed(checks) == {}
    assert passes(checks)


def test_a_model_of_few_trees_is_refused_as_unstable(good: ModelResult) -> None:
    [hasty] = show(fit(features(), minutes=60, trees=5, version="hasty"))
    reasons = failed(judge(hasty, good))
    assert "agreement of two seeds is 0." in reasons["stable_between_seeds"]
    assert not passes(judge(hasty, good))


def test_a_flood_of_coinjoins_does_not_teach_that_they_are_ordinary(good: ModelResult) -> None:
    rows, labels = features(), traffic().labels
    coinjoins = [row for row, label in enumerate(labels) if label == "plant:coinjoin"]
    flooded = np.concatenate([rows[:6_000], *[rows[coinjoins]] * 80])
    [challenger] = show(fit(flooded, minutes=60, version="flooded"))
    assert challenger.recall["coinjoin"] >= good.recall["coinjoin"] - 0.1


def test_a_model_that_does_not_find_coinjoins_is_refused(good: ModelResult) -> None:
    blind = replace(good, recall=good.recall | {"coinjoin": 0.4})
    assert failed(judge(blind, None)) == {"finds_planted_coinjoins": "recall of planted coinjoins is 0.40"}


def test_a_model_of_another_month_floods_and_gives_way_to_one_of_this_month(good: ModelResult) -> None:
    [stale] = show(model("2024-10", minutes=20, version="stale"))
    assert "alerts on held-out traffic" in failed(judge(stale, good))["alert_rate_within_budget"]
    assert failed(judge(good, stale)) == {}


def test_a_challenger_that_alerts_no_more_than_the_champion_is_not_refused_for_the_traffic(good: ModelResult) -> None:
    storm = replace(good, alerts=10 * good.alerts + 1_000)
    assert "alert_rate_within_budget" in failed(judge(storm, good))
    assert failed(judge(storm, storm)) == {}
    assert failed(judge(storm, None)) == {}, "without a champion nothing would be scored"


def test_a_loss_against_the_champion_names_the_kind_that_lost_most(good: ModelResult) -> None:
    assert good.recall["coinjoin"] > 0.8
    worse = replace(good, recall={kind: value - 0.1 for kind, value in good.recall.items()} | {"coinjoin": 0.0})
    reason = failed(judge(worse, good))["not_worse_than_champion"]
    assert reason.startswith("recall is 0.")
    assert "on average, most for coinjoin (" in reason


def test_a_wrong_verdict_on_a_known_case_is_refused_in_words(good: ModelResult) -> None:
    missed = replace(good.incidents[0], first=None)
    noisy = replace(good.look_alikes[0], first="forest")
    reasons = failed(judge(replace(good, incidents=[missed], look_alikes=[noisy]), None))
    assert reasons["golden_incidents_found"] == "fee of 83.65 BTC in block 818087: expected fee_accident, got None"
    assert reasons["look_alikes_stay_silent"] == "an exchange pays 3 BTC out of 5,000: expected silence, got forest"


def test_a_challenger_whose_order_is_unlike_the_champions_is_refused(good: ModelResult) -> None:
    unlike = replace(good, scores=np.random.default_rng(1).permutation(good.scores))
    assert failed(judge(unlike, good)).keys() == {"agrees_with_champion"}


def test_agreement_is_one_for_equal_scores_and_that_of_chance_for_unrelated_ones() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.random(50_000), generator.random(50_000)
    assert top_agreement(a, a) == 1.0
    assert top_agreement(a, b) < 0.02


@pytest.mark.parametrize(
    ("feedback", "passed"),
    [
        (Feedback(useful=9, useful_found=0, noise=500, noise_found=500), True),  # too few to say
        (Feedback(useful=40, useful_found=40, noise=40, noise_found=40), True),  # as the champion that raised them
        (Feedback(useful=40, useful_found=20, noise=40, noise_found=4), True),
        (Feedback(useful=40, useful_found=20, noise=40, noise_found=23), True),  # by chance
        (Feedback(useful=40, useful_found=20, noise=40, noise_found=36), False),
    ],
)
def test_a_challenger_that_prefers_what_people_called_noise_is_refused(
    good: ModelResult, feedback: Feedback, passed: bool
) -> None:
    reasons = failed(judge(replace(good, feedback=feedback), None))
    assert reasons == (
        {}
        if passed
        else {"follows_the_feedback": "it finds 90% of what people called noise, and 50% of what they called useful"}
    )


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (0.4, 0.8, None),
        (0.6, 0.6, "with what it learnt 60% of unseen pairs of useful alert and noise are in order, 60% without"),
        (None, None, "there is no useful alert beside noise among the answers kept to judge it by"),
    ],
)
def test_a_lesson_is_kept_only_if_it_orders_unseen_answers_better(
    good: ModelResult, before: float | None, after: float | None, reason: str | None
) -> None:
    taught, untaught = (replace(good, unseen_agreement=value) for value in (after, before))
    assert failed(judge_answers(taught, untaught)) == ({} if reason is None else {"better_on_unseen_answers": reason})


def test_a_lesson_that_loses_what_was_planted_is_refused(good: ModelResult) -> None:
    untaught = replace(good, unseen_agreement=0.4)
    worse = replace(
        good, unseen_agreement=1.0, recall=good.recall | {"fee_accident": good.recall["fee_accident"] - 0.3}
    )
    assert failed(judge_answers(worse, untaught)) == {
        "loses_nothing_planted": "for what it learnt recall of planted fee_accident is 0.300 lower"
    }
