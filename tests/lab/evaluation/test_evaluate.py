"""The figures that are claimed, on real captures and on simulated traffic that is unlike them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.modelling import features, model, traffic
from txwatch.detection.cases import Coin, written_down
from txwatch.features.batch import TransactionBatch
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.evaluate import (
    Options,
    capture_context,
    evaluate_captures,
    evaluate_simulated,
    simulated_truth,
    whale_figures,
)
from txwatch.lab.evaluation.examination import recall_at
from txwatch.lab.evaluation.replay import Labelled, read_labelled

RECALLS = ("recall_at_budget_fpr", "recall_at_0_2pct_fpr", "recall_at_1pct_fpr")
FIGURES = {"n", "auc", "average_precision"} | {
    f"{name}{what}" for name in RECALLS for what in ("", "_interval", "_rows")
}


def halves(capture: Labelled) -> tuple[Labelled, Labelled]:
    """Every other transaction: the documented split."""
    even, odd = range(0, len(capture), 2), range(1, len(capture), 2)
    return tuple(  # type: ignore[return-value]
        Labelled([capture.transactions[row] for row in rows], [capture.labels[row] for row in rows])
        for rows in (even, odd)
    )


@pytest.fixture(scope="module")
def evaluated(shared_data: Path) -> dict[str, Any]:
    train, background = halves(read_labelled([shared_data / "mempool-2024-03.jsonl.gz"]))
    return evaluate_captures(train, background, read_labelled([shared_data / "coinjoin-whirlpool-2024-03.jsonl.gz"]))


def test_whirlpool_is_found_by_general_features_where_the_raw_ones_find_nothing(evaluated: dict[str, Any]) -> None:
    coinjoin, premix = evaluated["labels"]["coinjoin:whirlpool"], evaluated["labels"]["premix:whirlpool-tx0"]
    assert coinjoin["n"] == 706
    assert coinjoin["recall_at_0_2pct_fpr"] >= 0.98
    assert premix["recall_at_0_2pct_fpr"] >= 0.7
    assert coinjoin["baseline"]["recall_at_0_2pct_fpr"] <= 0.02
    assert premix["baseline"]["recall_at_0_2pct_fpr"] <= 0.02


def test_the_output_is_one_json_object_of_the_documented_form(evaluated: dict[str, Any]) -> None:
    again = json.loads(json.dumps(evaluated))
    for figures in again["labels"].values():
        assert set(figures) == FIGURES | {"baseline"}
        assert set(figures["baseline"]) == FIGURES
    assert set(again["known_cases"]["incidents_found"].values()) == {True}
    assert set(again["known_cases"]["look_alikes_silent"].values()) == {True}
    whales = again["whales"]
    assert whales["precision"] >= 0.95
    assert whales["recall"] >= 0.95
    assert whales["false_positive_rate"] <= 0.0001
    assert whales["baseline"]["precision"] < 0.9
    assert again["data"]["background_labelled_left_out"] == 7
    assert 0 < again["data"]["background_found_left_out"] < 200


def test_tags_and_rules_find_what_was_planted_in_real_traffic(evaluated: dict[str, Any]) -> None:
    planted = evaluated["found"]["planted"]
    for kind in ("fee_accident", "whale", "dormant_round_move", "dust_storm"):
        assert planted[f"plant:{kind}"]["alerted"] >= 0.99, kind
    assert planted["plant:coinjoin"]["kinds"]["coinjoin"] == 1.0
    assert planted["plant:coinjoin"]["alerted"] == 0.0
    assert evaluated["found"]["positives"]["coinjoin:whirlpool"]["kinds"]["coinjoin"] == 1.0


def coinjoins_of_other_kinds(seed: int) -> dict[str, Labelled]:
    """Coinjoins as JoinMarket and Wasabi make them, with amounts that no month of captures has taught."""
    draws = np.random.default_rng(seed)

    def joinmarket(n: int) -> Any:
        """A taker's odd amount, three to nine makers, change for each, unequal inputs."""
        makers, amount = int(draws.integers(4, 10)), int(draws.lognormal(17, 1))
        change = [int(x) for x in draws.lognormal(16.5, 1.2, makers)]
        spent = [Coin("p2wpkh", amount + c + 900) for c in change]
        return written_down(f"joinmarket {n}", spent, [Coin("p2wpkh", v) for c in change for v in (amount, c)])

    def wasabi(n: int) -> Any:
        """A hundred and fifty inputs; outputs in powers of two and of three, most of which several owners share."""
        amounts = [2**k for k in range(15, 27)] + [3**k for k in range(9, 17)]
        values = draws.choice(amounts, 180, p=draws.dirichlet(np.ones(len(amounts)) * 2))
        spent = [Coin("p2tr", int(sum(map(int, values)) / 150) + 20_000)] * 150
        return written_down(f"wasabi {n}", spent, [Coin("p2tr", int(value)) for value in values])

    return {
        build.__name__: Labelled([build(n) for n in range(100)], [build.__name__] * 100)
        for build in (joinmarket, wasabi)
    }


@pytest.mark.parametrize("regime", ["2024-03", "2024-10", "2025-07"])
def test_other_coinjoins_are_found_in_other_months(regime: str) -> None:
    trained, rows = model(regime, minutes=20), features(regime, seed=2, minutes=20)
    background = trained.score(rows[[label is None for label in traffic(regime, seed=2, minutes=20).labels]])
    context = capture_context(traffic(regime, minutes=20).transactions)
    for kind, coinjoins in coinjoins_of_other_kinds(seed=3).items():
        scores = trained.score(transaction_features(TransactionBatch.of(coinjoins.transactions), context))
        assert recall_at(background, scores, 0.01) >= 0.9, kind


def test_the_whale_rule_is_held_to_what_really_moved() -> None:
    measured = traffic()
    figures = whale_figures(measured, simulated_truth(measured, 500), 500)
    assert figures["n"] >= 15
    assert figures["precision"] >= 0.95
    assert figures["recall"] >= 0.95
    with pytest.raises(ValueError, match="400 BTC or more, not 10"):
        simulated_truth(measured, 10)


@pytest.mark.soak
def test_recall_at_the_budget_on_100_000_background_transactions() -> None:
    """Plants at their default rates: 20 fee accidents and whales, 24 coinjoins, 12 round moves, 4 storms an hour."""
    from datetime import timedelta

    result = evaluate_simulated(options=Options(), train_for=timedelta(hours=3), measure_for=timedelta(hours=5.5))
    assert result["data"]["background"] >= 100_000
    found = result["found"]["simulated"]
    for kind in ("fee_accident", "whale", "dormant_round_move", "dust_storm"):
        assert found[f"plant:{kind}"]["alerted"] >= 0.98, kind
    assert found["plant:coinjoin"]["kinds"]["coinjoin"] >= 0.98
    assert result["labels"]["plant:coinjoin"]["recall_at_budget_fpr"] >= 0.5
    assert result["labels"]["plant:coinjoin"]["recall_at_1pct_fpr"] >= 0.95
    assert found["unlabelled"]["alerted"] <= 3 * result["data"]["budget_fpr"]


def test_an_hour_without_plants_stays_within_the_budget() -> None:
    from tests.modelling import windows
    from txwatch.detection.rules import default_detectors
    from txwatch.detection.score import score_features

    trained, detectors = model(), default_detectors(whale_btc=500)
    quiet = [
        score for w in windows(seed=4, minutes=60, plants=False) for score in score_features(w, trained, detectors)
    ]
    by_rule = [s for s in quiet if s.is_anomaly and any(r.kind != "forest" for r in s.reasons[:1])]
    assert [s.reasons[0].text for s in by_rule if s.score < s.threshold] == []
    assert sum(s.is_anomaly for s in quiet) <= 12 + 3 * np.sqrt(2 * 12)
