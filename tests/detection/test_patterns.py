"""Patterns: what a person would call alike is one, and what is of no worth is news only if its pattern is new."""

import numpy as np
import pytest
from msgspec.structs import replace

from tests.builders import transaction
from tests.modelling import features, fit, model, traffic, windows
from txwatch.detection.model import Model
from txwatch.detection.patterns import (
    ENOUGH_ROWS,
    IMMATERIAL,
    best_of_each,
    is_material,
    patterns_of,
    seen_once,
    shapes_of,
)
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score
from txwatch.features.batch import TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.transaction import transaction_features
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import CreatedOutput, Transaction

MATERIAL_SAT = 0.1 * SAT_PER_BTC


def pays(outputs: int, sat: int, *, fee_sat: int = 1_000) -> Transaction:
    """One input, and so many outputs of one amount (satoshi)."""
    made = [CreatedOutput(f"bc1q{n:038d}", sat, "p2wpkh", n) for n in range(outputs)]
    return transaction(outputs=made, value_sat=outputs * sat, fee_sat=fee_sat)


def pattern(tx: Transaction) -> int:
    rows = transaction_features(TransactionBatch.of([tx]), windows()[0].context)
    (found,) = patterns_of(rows, MATERIAL_SAT).tolist()
    return int(found)


def test_payouts_that_differ_a_little_are_alike() -> None:
    assert len({pattern(pays(outputs, 546)) for outputs in (7, 8, 12, 18)}) == 1
    assert len({pattern(pays(10, sat)) for sat in (10_000, 12_000, 25_000)}) == 1


@pytest.mark.parametrize(
    "other", [pays(10, 100_000), pays(40, 546), pays(2, 546), pays(10, 546, fee_sat=200_000), pays(10, 2_000_000)]
)
def test_what_differs_in_shape_amount_or_worth_is_not_alike(other: Transaction) -> None:
    assert pattern(other) != pattern(pays(10, 546))


@pytest.mark.parametrize(
    ("tx", "material"),
    [
        (pays(2, 4_999_999), False),
        (pays(2, 5_000_000), True),
        (pays(2, 546, fee_sat=99_999), False),
        (pays(2, 546, fee_sat=100_000), True),
    ],
)
def test_a_value_or_a_fee_is_material_from_the_setting_on(tx: Transaction, material: bool) -> None:
    assert is_material(np.array([pattern(tx)])).tolist() == [material]


def test_ordinary_traffic_has_few_patterns_and_hardly_a_new_one_after_an_hour() -> None:
    hour, next_hour = features(), features(seed=2)
    known, later = patterns_of(hour, MATERIAL_SAT), patterns_of(next_hour, MATERIAL_SAT)
    assert len(np.unique(known)) < len(known) / 10
    new = ~np.isin(later, known)
    assert new.mean() < 0.05
    assert not seen_once(known).any()


def test_what_occurs_once_says_how_many_will_be_new() -> None:
    # Good, 1953, on patterns whose frequencies fall as Zipf's law has it.
    drawn = np.random.default_rng(1).zipf(1.6, 2 * ENOUGH_ROWS)
    known, later = drawn[:ENOUGH_ROWS], drawn[ENOUGH_ROWS:]
    assert seen_once(known).mean() == pytest.approx(np.mean(~np.isin(later, known)), rel=0.05)


def test_an_unknown_fee_or_script_is_no_material_fee_and_no_majority() -> None:
    row = features()[:1].copy()
    row[:, FEATURE_NAMES.index("value_sat")] = 1_000.0
    for name in ("fee_sat", "input_legacy_share", "input_taproot_share", "equal_output_share"):
        row[:, FEATURE_NAMES.index(name)] = np.nan
    assert not is_material(patterns_of(row, MATERIAL_SAT)).any()


def test_what_is_of_no_worth_counts_half_unless_its_shape_is_new() -> None:
    known = model()
    dust = pays(10, 546)
    (of_known,) = score([dust], windows()[-1].context, knowing(known, dust), default_detectors(whale_btc=500))
    (of_new,) = score([dust], windows()[-1].context, without_shape(known, dust), default_detectors(whale_btc=500))
    assert of_known.score == pytest.approx(IMMATERIAL * of_new.score)


def knowing(model: Model, tx: Transaction) -> Model:
    """The model, as if it had seen such a transaction in training."""
    return with_shapes(model, {*model.card.shapes, shape(tx)})


def without_shape(model: Model, tx: Transaction) -> Model:
    """The model, as if it had seen none like it."""
    return with_shapes(model, {*model.card.shapes} - {shape(tx)})


def shape(tx: Transaction) -> int:
    return int(shapes_of(np.array([pattern(tx)]))[0])


def with_shapes(model: Model, shapes: set[int]) -> Model:
    """As if it was trained on enough rows."""
    return Model(model.version, model.pipeline, replace(model.card, shapes=sorted(shapes), rows=ENOUGH_ROWS))


def test_a_model_of_few_rows_calls_no_shape_new() -> None:
    few, shape = model(), 128
    assert few.worth(np.array([0])).tolist() == [IMMATERIAL]
    worthless, finer, material = shape * 64, shape * 64 + 2, shape * 64 + 1
    assert with_shapes(few, {shape}).worth(np.array([0, worthless, finer, material])).tolist() == [
        1.0,
        IMMATERIAL,
        IMMATERIAL,
        1.0,
    ]


def test_of_what_is_alike_the_best_of_each_hour_counts() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.8, 0.1])
    patterns, hours = np.array([7, 7, 7, 8, 7]), np.array([0, 0, 1, 0, 0])
    assert sorted(best_of_each(scores, patterns, hours).tolist()) == [0.5, 0.8, 0.9]
    assert best_of_each(scores[:0], patterns[:0], hours[:0]).tolist() == []


def test_a_flood_of_what_is_alike_in_the_training_day_costs_the_budget_one_alert_an_hour() -> None:
    rows = features()
    most = int(np.argmax(model().score(rows)))
    flood = np.concatenate([rows, np.repeat(rows[most : most + 1], 300, axis=0)])
    with_flood = fit(flood, minutes=60)
    copies = with_flood.score(rows[most : most + 1])[0]
    # As so many alerts they would have raised the threshold above themselves.
    assert (np.array(with_flood.card.highest_scores) >= copies).sum() < 50
    assert len(traffic()) > 10_000
