"""Drift: false alarms are controlled, other months are always noticed, and how small a change is found is stated."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.modelling import START, features, traffic
from txwatch.detection.drift import WATCHED, Drift, Reference, TooFewRowsError, retraining_needed
from txwatch.features.batch import TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.evaluate import capture_context
from txwatch.lab.evaluation.replay import read_labelled

Floats = NDArray[np.float64]


@cache
def stationary() -> tuple[Floats, Floats]:
    """Two hours of simulated traffic, plants and all: features and when they were seen, seconds."""
    seen = np.array([tx.seen_at.timestamp() for tx in traffic(seed=3, minutes=120).transactions])
    return features(seed=3, minutes=120), seen


@cache
def first_hour() -> tuple[Floats, Floats]:
    rows, seen = stationary()
    early = seen < START.timestamp() + 3_600
    return rows[early], seen[early]


@cache
def march() -> Reference:
    """The first simulated hour."""
    return Reference(*first_hour())


def sample(rows: Floats, n: int, seed: int) -> Floats:
    return rows[np.random.default_rng(seed).choice(len(rows), n, replace=False)]


def alarms(results: list[Drift]) -> float:
    return float(np.mean([result.drifted for result in results]))


def test_random_halves_of_a_real_hour_do_not_alarm(shared_data: Path) -> None:
    capture = read_labelled([shared_data / "mempool-2024-03.jsonl.gz"])
    rows = transaction_features(TransactionBatch.of(capture.transactions), capture_context(capture.transactions))
    seen = np.array([tx.seen_at.timestamp() for tx in capture.transactions])
    results = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(rows))
        half, other = order[::2], order[1::2]
        results.append(Reference(rows[half], seen[half]).compare(rows[other]))
    assert alarms(results) <= 0.05


@pytest.mark.parametrize("n", [500, 2_000])
def test_consecutive_stationary_windows_do_not_alarm(n: int) -> None:
    rows, seen = stationary()
    reference = march()
    starts = START.timestamp() + np.arange(3_600, 7_200, 300)
    fives = [rows[(seen >= start) & (seen < start + 300)] for start in starts]
    pairs = [np.concatenate([a, b]) for a, b in pairwise(fives)]
    results = [reference.compare(sample(pair, n, seed)) for pair in pairs for seed in range(3)]
    assert alarms(results) <= 0.05


@pytest.mark.parametrize("month", ["2024-10", "2025-07"])
@pytest.mark.parametrize("n", [500, 2_000])
def test_another_month_alarms_every_time(month: str, n: int) -> None:
    other = features(month, minutes=20)
    reference = march()
    results = [reference.compare(sample(other, n, seed)) for seed in range(20)]
    assert alarms(results) == 1.0
    assert min(result.share for result in results) >= 0.3


@pytest.mark.parametrize("month", ["2024-10", "2025-07"])
def test_another_month_alarms_against_real_march(month: str, shared_data: Path) -> None:
    capture = read_labelled([shared_data / "mempool-2024-03.jsonl.gz"])
    rows = transaction_features(TransactionBatch.of(capture.transactions), capture_context(capture.transactions))
    reference = Reference(rows, np.array([tx.seen_at.timestamp() for tx in capture.transactions]))
    other = features(month, minutes=20)
    assert alarms([reference.compare(sample(other, 2_000, seed)) for seed in range(10)]) == 1.0


@pytest.mark.parametrize(
    ("feature", "factor", "found"), [("fee_rate", 1.05, True), ("value_sat", 1.1, True), ("fee_rate", 1.01, False)]
)
def test_the_smallest_shift_found_among_2_000_rows(feature: str, factor: float, found: bool) -> None:
    """`docs/models.md` states it: fee rates that are 5 % higher, amounts that are 10 % higher."""
    rows, seen = stationary()
    reference = march()
    results = []
    for seed in range(10):
        recent = sample(rows[seen >= START.timestamp() + 3_600], 2_000, seed)
        recent[:, FEATURE_NAMES.index(feature)] *= factor
        results.append(reference.compare(recent))
    assert alarms(results) >= 0.95 if found else alarms(results) <= 0.05
    if found:
        assert results[0].features[0].feature == feature


def test_an_hour_that_is_ordinarily_unlike_another_raises_the_limits() -> None:
    """Fee rates that swing from hour to hour in the reference are no drift when they swing again."""
    rows, _ = first_hour()
    column = FEATURE_NAMES.index("fee_rate")
    day = np.concatenate([rows[:2_000]] * 24)
    seen = np.repeat(np.arange(24) * 3_600.0, 2_000) + np.tile(np.linspace(0, 3_599, 2_000), 24)
    swinging = day.copy()
    swinging[:, column] *= np.repeat(np.where(np.arange(24) % 2, 1.3, 1.0), 2_000)
    recent = rows[2_000:4_000].copy()
    recent[:, column] *= 1.3
    assert Reference(day, seen).compare(recent).drifted
    assert not Reference(swinging, seen).compare(recent).drifted


def test_a_feature_that_becomes_unknown_has_drifted() -> None:
    rows, _ = first_hour()
    recent = rows[:2_000].copy()
    recent[:, FEATURE_NAMES.index("fee_rate")] = np.nan
    worst = march().compare(recent).features[0]
    assert (worst.feature, worst.drifted) == ("fee_rate", True)


def test_what_is_relative_to_the_network_is_not_watched() -> None:
    watched = {FEATURE_NAMES[i] for i in WATCHED}
    assert {"fee_rate", "value_sat", "input_count"} <= watched
    assert not {name for name in watched if name.endswith(("_1h", "_24h"))}


def test_too_few_rows_are_refused() -> None:
    rows, seen = first_hour()
    with pytest.raises(TooFewRowsError, match="200 recent rows"):
        Reference(rows, seen).compare(rows[:200])
    with pytest.raises(TooFewRowsError, match="the reference has 100 rows"):
        Reference(rows[:100], seen[:100])


@pytest.mark.parametrize(
    ("drifted", "hours_since_asked", "needed"),
    [
        ([True, True, True], None, True),
        ([True, True, True, False], None, True),
        ([True, True], None, False),
        ([True, False, True, True], None, False),
        ([True, True, True], 5.9, False),
        ([True, True, True], 6.0, True),
        ([True, True, True], -0.1, True),
        ([], None, False),
    ],
)
def test_training_is_asked_for_when_drift_persists(
    drifted: list[bool], hours_since_asked: float | None, needed: bool
) -> None:
    now = datetime(2024, 3, 14, 12, tzinfo=UTC)
    asked = None if hours_since_asked is None else now - timedelta(hours=hours_since_asked)
    assert retraining_needed(drifted, asked, now, persists=3, cooldown=timedelta(hours=6)) is needed
