"""What is unusual beside what was found: the forest's score without the features that a finding accounts for.

A coinjoin of sixty owners is the most unusual thing of its hour to a forest, and no news to a reader who chose not to
hear of coinjoins; the same is true of an exchange's payout to a thousand customers, and of a whale that has its alert
already. Each kind names the features that it accounts for (`kinds.py`). Where such a kind was found, they are put back
to their medians, and only what is left counts towards the threshold and the alert budget.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.kinds import KINDS
from txwatch.detection.reasons import SAT
from txwatch.detection.rules import BatchPayout, Coinjoin, Consolidation, DustStorm, FeeAccident, column
from txwatch.features.contract import FEATURE_NAMES

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FEATURES_OF = {name: np.isin(FEATURE_NAMES, kind.accounts_for) for name, kind in KINDS.items()}


def accounted_for(found: Mapping[int, Iterable[str]], n: int) -> Flags:
    """Which features of which of n rows are accounted for, given the kinds found in rows. Shape (n, features)."""
    flags = np.zeros((n, len(FEATURE_NAMES)), np.bool_)
    for row, kinds in found.items():
        for kind in kinds:
            flags[row] |= _FEATURES_OF[kind]
    return flags


def without(features: Floats, accounted: Flags, medians: Floats) -> Floats:
    """The features with what is accounted for at its median."""
    return np.where(accounted, medians, features)


def remaining_scores(score: Callable[[Floats], Floats], features: Floats, accounted: Flags, medians: Floats) -> Floats:
    """The score of each row beside what is accounted for; never more than its plain score. `score` gives plain ones."""
    scores = score(features).copy()
    rows = np.flatnonzero(accounted.any(axis=1))
    if len(rows):
        left = score(without(features[rows], accounted[rows], medians))
        scores[rows] = np.minimum(scores[rows], left)
    return scores


def likely_findings(features: Floats, *, whale_btc: float) -> Flags:
    """What is accounted for, from the features alone: for training, which has no addresses at hand.

    It follows the detectors as far as features go. The two agree on all but a few rows in a thousand; a test holds them
    to it. Shape (n, features).
    """
    fee, rate, ratio = (column(features, name) for name in ("fee_sat", "fee_rate", "fee_rate_over_median_1h"))
    inputs, outputs = column(features, "input_count"), column(features, "output_count")
    equal, payees = column(features, "equal_output_count"), column(features, "distinct_output_addresses")
    absurd = np.where(np.isnan(ratio), rate >= FeeAccident.min_fee_rate, ratio >= FeeAccident.min_times_median)
    kinds: dict[str, Flags] = {
        "fee_accident": (fee >= FeeAccident.min_fee_sat) & absurd,
        "whale": column(features, "moved_sat") >= whale_btc * SAT,
        "dust_storm": column(features, "dust_outputs") >= DustStorm.min_addresses,
        "consolidation": (inputs >= Consolidation.min_inputs) & (outputs == 1),
        "coinjoin": (equal >= Coinjoin.min_owners) & (inputs >= equal) & (payees >= equal),
        "batch_payout": BatchPayout().fits(features),
    }
    flags = np.zeros(features.shape, np.bool_)
    for name, rows in kinds.items():
        flags |= rows[:, None] & _FEATURES_OF[name]
    return flags
