"""Answers move what is alerted on within days, and a model keeps no lesson that is worse for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np

from tests.modelling import START, features, windows
from txwatch.detection.answers import MIN_ANSWERS
from txwatch.detection.gate import passes
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score_features
from txwatch.detection.training import TrainedModel, train
from txwatch.features.batch import TransactionBatch, WindowFeatures
from txwatch.features.contract import FEATURE_NAMES
from txwatch.lab.evaluation.examination import JudgedAlerts, Lesson, teach_if_better

MINUTES = 40
NIGHTS = ((11, 13), (13, 14), (14, 12))
"""Seeds of days: of the one that a model is trained on each night, and of the next, on which it alerts."""
ALERTS = 16
"""A day, of 13,000 transactions."""
DETECTORS = default_detectors(whale_btc=500)
INPUTS, OUTPUTS = FEATURE_NAMES.index("input_count"), FEATURE_NAMES.index("output_count")
Answer = Callable[[np.ndarray], bool]


def calls_coinjoins_noise(row: np.ndarray) -> bool:
    """Useful is what is not of several inputs and of several outputs, as payments of several owners are."""
    return not (row[INPUTS] >= 4 and row[OUTPUTS] >= 4)


def says_the_opposite(row: np.ndarray) -> bool:
    return not calls_coinjoins_noise(row)


@dataclass(frozen=True)
class Alerted:
    """Alerts of a day, one for each pattern: the txid of each, and the features of its transaction."""

    txids: list[str]
    rows: list[np.ndarray]

    def useful_share(self) -> float:
        return float(np.mean([calls_coinjoins_noise(row) for row in self.rows]))


@cache
def trained(day: int) -> TrainedModel:
    rows = features(seed=day, minutes=MINUTES)
    return train(
        rows, START, START + timedelta(minutes=MINUTES), alerts_per_hour=12, whale_btc=500, seed=7, min_rows=100
    )


def alerted(model: Model, day: int) -> Alerted:
    """What the budget of a day is spent on: the most unusual of each pattern, the highest scores first."""
    scored = [
        (score, row)
        for window in windows(seed=day, minutes=MINUTES)
        for score, row in zip(score_features(window, model, DETECTORS), window.features, strict=True)
    ]
    found: dict[int | None, tuple[str, np.ndarray]] = {}
    for score, row in sorted(scored, key=lambda pair: -pair[0].score):
        found.setdefault(score.pattern, (score.txid, row))
    best = list(found.values())[:ALERTS]
    return Alerted([txid for txid, _ in best], [row for _, row in best])


def judged(days: dict[int, Alerted], answer: Answer) -> JudgedAlerts:
    """What a person answers to all alerts of these days."""
    kept: list[WindowFeatures] = []
    useful = set()
    for day, alerts in days.items():
        useful |= {txid for txid, row in zip(alerts.txids, alerts.rows, strict=True) if answer(row)}
        for window in windows(seed=day, minutes=MINUTES):
            places = [row for row, tx in enumerate(window.transactions) if tx.txid in alerts.txids]
            if places:
                kept.append(at(window, places))
    return JudgedAlerts(tuple(kept), frozenset(useful))


def at(window: WindowFeatures, places: list[int]) -> WindowFeatures:
    transactions = [window.transactions[place] for place in places]
    batch = TransactionBatch.of(transactions)
    return WindowFeatures(window.start, transactions, batch, window.features[places], window.context)


def nights(answer: Answer) -> list[tuple[Lesson, Alerted]]:
    """Each night a model is trained and taught what was answered to the alerts of the days before, then alerts."""
    days: dict[int, Alerted] = {}
    result = []
    for day, following in NIGHTS:
        held_out = windows(seed=following, minutes=MINUTES)[-4:]
        lesson = teach_if_better(
            trained(day), features(seed=day, minutes=MINUTES), judged(days, answer), held_out, whale_btc=500
        )
        days[following] = alerted(lesson.trained.model("of the night"), following)
        result.append((lesson, days[following]))
    return result


def untaught(day: int, following: int) -> Alerted:
    """The alerts of the same model without any answer."""
    return alerted(trained(day).model("untaught"), following)


def test_answers_leave_a_third_of_the_noise_at_most_within_three_nights() -> None:
    lessons = nights(calls_coinjoins_noise)
    (first, _), (last, after) = lessons[0], lessons[-1]
    assert first.outcome == f"0 answers: it learns from {MIN_ANSWERS} on"
    assert last.outcome.startswith("learnt from ")
    assert passes(last.checks)
    before = untaught(*NIGHTS[-1])
    assert 1 - after.useful_share() <= (1 - before.useful_share()) / 3
    assert after.useful_share() >= 2 * before.useful_share()


def test_who_answers_the_opposite_teaches_nothing() -> None:
    lessons = nights(says_the_opposite)
    for (lesson, alerts), night in zip(lessons, NIGHTS, strict=True):
        assert lesson.trained is trained(night[0])
        assert alerts.txids == untaught(*night).txids
    refused = {check.name: check.reason for check in lessons[-1][0].checks if not check.passed}
    assert "for what it learnt recall of planted fee_accident is 0." in refused["loses_nothing_planted"]
