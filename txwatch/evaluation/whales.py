"""The whale rule against truth: value that really moved, which the simulator knows and a label may state.

The rule that it is measured against is the common one: a whale is a transaction whose outputs add up to so much.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.reasons import SAT
from txwatch.evaluation.labelled import Labelled
from txwatch.features.batch import TransactionBatch
from txwatch.features.moved import moved_value
from txwatch.simulator.ordinary import BIG_SAT
from txwatch.simulator.plants import label

Flags = NDArray[np.bool_]

_REAL_MOVES = {label("whale"), label("dormant_round_move")}


def whale_figures(traffic: Labelled, truth: Flags, whale_btc: float) -> dict[str, Any]:
    """Precision, recall and false-positive rate of the rule, and of the one by total output. Shape of truth: (n,)."""
    batch = TransactionBatch.of(traffic.transactions)
    by_rule = moved_value(batch).likely >= whale_btc * SAT
    by_total = batch.value_sat >= whale_btc * SAT
    return (
        {"n": int(truth.sum()), "transactions": len(traffic)}
        | _rates(by_rule, truth)
        | {"baseline": _rates(by_total, truth)}
    )


def simulated_truth(traffic: Labelled, whale_btc: float) -> Flags:
    """Which simulated transactions really moved that much. Ordinary ones move less than BIG_SAT: raises ValueError for
    a lower bound than that, where their truth is not known."""
    if whale_btc * SAT < BIG_SAT:
        raise ValueError(f"the simulator knows who moved {BIG_SAT / SAT:g} BTC or more, not {whale_btc:g}")
    return np.array(
        [
            known in _REAL_MOVES and max(output.value for output in tx.outputs) >= whale_btc * SAT
            for tx, known in zip(traffic.transactions, traffic.labels, strict=True)
        ],
        np.bool_,
    )


def _rates(found: Flags, truth: Flags) -> dict[str, float | None]:
    right = int((found & truth).sum())
    return {
        "precision": right / int(found.sum()) if found.any() else None,
        "recall": right / int(truth.sum()) if truth.any() else None,
        "false_positive_rate": float((found & ~truth).sum() / max(1, (~truth).sum())),
    }
