"""Patterns: what transactions have in common that a person would call alike, as one number.

A pattern is made of how many inputs and outputs there are, what they add up to, dust and data (its shape), how many
outputs are equal, scripts, and whether anything of it is material. It is coarse: a series of payouts that differ by a
few outputs is one pattern, and the traffic of 25 minutes has some 500 of them.

A transaction of no material value is news only if its shape is new: otherwise its score counts half, and stays below
the threshold, however odd it is. How many will be new is known beforehand: the share of transactions whose shape occurs
once in the training day (Good, "The population frequencies of species", 1953). After few rows nearly every odd one is,
so that a model of less than ENOUGH_ROWS calls none new.
"""

import numpy as np
from numpy.typing import NDArray

from txwatch.features.batch import Flags, Floats
from txwatch.features.contract import FEATURE_NAMES

Patterns = NDArray[np.int64]

FEE_SHARE = 0.01
"""Of the least material value: a fee from there on is material as well."""
_COUNTS = (2, 3, 6, 21, 101)
"""Inputs or outputs: 1, 2, 3 to 5, 6 to 20, 21 to 100, and more."""
_EQUAL_SHARES = (0.01, 0.5, 0.9)
_FEW_OUTPUTS = 3
"""Of fewer nothing is equal but by chance."""
_MAX_HALF_DECADES = 40
_MAJORITY = 0.5


def patterns_of(features: Floats, material_sat: float) -> Patterns:
    """The pattern of each row of shape (n, len(FEATURE_NAMES)). Values and fees from `material_sat` on are material.

    What is unknown counts as 0.
    """

    def column(name: str) -> Floats:
        values: Floats = np.nan_to_num(features[:, FEATURE_NAMES.index(name)])
        return values

    def is_mostly(name: str) -> Flags:
        return column(name) >= _MAJORITY

    outputs = column("output_count")
    equal = np.searchsorted(_EQUAL_SHARES, column("equal_output_share"), "right")
    half_decades = np.floor(2 * np.log10(np.maximum(column("value_sat"), 1.0)))
    material = (column("value_sat") >= material_sat) | (column("fee_sat") >= FEE_SHARE * material_sat)
    digits = (
        (np.searchsorted(_COUNTS, column("input_count"), "right"), len(_COUNTS) + 1),
        (np.searchsorted(_COUNTS, outputs, "right"), len(_COUNTS) + 1),
        (np.minimum(half_decades, _MAX_HALF_DECADES - 1), _MAX_HALF_DECADES),
        (column("dust_outputs") > 0, 2),
        (column("op_return_outputs") > 0, 2),
        # The shape, and what is finer than it.
        (np.where(outputs < _FEW_OUTPUTS, 0, equal), len(_EQUAL_SHARES) + 1),
        (is_mostly("input_legacy_share"), 2),
        (is_mostly("input_taproot_share"), 2),
        (is_mostly("output_taproot_share"), 2),
        (material, 2),
    )
    patterns = np.zeros(len(features), np.int64)
    for digit, base in digits:
        patterns = patterns * base + digit.astype(np.int64)
    return patterns


def shapes_of(patterns: Patterns) -> Patterns:
    """The shape of each pattern: coarser, so that a new one is news."""
    shapes: Patterns = patterns // ((len(_EQUAL_SHARES) + 1) * 2**4)
    return shapes


def is_material(patterns: Patterns) -> Flags:
    """Whether transactions of each pattern are of material value."""
    material: Flags = patterns % 2 == 1
    return material


IMMATERIAL = 0.5
"""Factor of the score of a transaction of no material value whose shape is known."""


def worth(patterns: Patterns, are_new: Flags) -> Floats:
    """The factor of each row's score: 1 where it is material or its shape is new, else IMMATERIAL. Shape (n,)."""
    return np.where(is_material(patterns) | are_new, 1.0, IMMATERIAL)


ENOUGH_ROWS = 100_000
"""Rows of training, from which on a shape that was not among them is new: five hours of ordinary traffic."""


def seen_once(shapes: Patterns) -> Flags:
    """Which rows of training would have been new: the only one of their shape, among enough."""
    if len(shapes) < ENOUGH_ROWS:
        return np.zeros(len(shapes), np.bool_)
    _, place, counts = np.unique(shapes, return_inverse=True, return_counts=True)
    once: Flags = counts[place] == 1
    return once


def best_of_each(scores: Floats, patterns: Patterns, hours: NDArray[np.int64]) -> Floats:
    """The highest score of each pattern in each hour: as many as there are alerts at a threshold. In no order.

    All arrays have shape (n,).
    """
    best: Floats = scores[best_rows(scores, patterns, hours)]
    return best


def best_rows(scores: Floats, patterns: Patterns, hours: NDArray[np.int64]) -> NDArray[np.intp]:
    """The row of each of them. The best of several parts are among the best of each part."""
    order = np.lexsort((-scores, hours, patterns))
    pattern, hour = patterns[order], hours[order]
    return order[np.r_[True, (pattern[1:] != pattern[:-1]) | (hour[1:] != hour[:-1])]] if len(order) else order
