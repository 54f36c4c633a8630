"""The outline of ordinary transactions: shape, counts, amount, fee rate, drawn from a regime in whole blocks.

Belongs here: what one vectorized draw decides. Who is paid with which coins is in `ordinary.py`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from txwatch.simulator.regimes import Regime, interpolate

INSCRIPTION, RUNE, PAYMENT = "inscription", "rune", "payment"

_BLOCK = 512
_ONE_ONE, _ONE_TWO, _SEVERAL, _BATCH = range(4)
_SEVERAL_TO_ONE, _SEVERAL_TO_AT_MOST_TWO = 0.35, 0.8
_SWEEP = 20
"""With more inputs than this it is a consolidation, into one output."""


class Plan(NamedTuple):
    """One transaction's outline. `total_sat` is the sum of outputs to aim at, `fee_rate` in sat/vB."""

    carries: str
    inputs: int
    outputs: int
    total_sat: float
    fee_rate: float
    inscription_bytes: float


def plans(regime: Regime, generator: np.random.Generator) -> Iterator[Plan]:
    """Outlines without end."""
    limits = np.cumsum([regime.one_in_one_out, regime.one_in_two_out, regime.several_in])
    tokens = regime.inscriptions + regime.runes
    while True:
        shape = np.searchsorted(limits, generator.random(_BLOCK), side="right")
        carries_share = generator.random(_BLOCK)
        inscription = (shape == _ONE_ONE) & (carries_share < regime.inscriptions / regime.one_in_one_out)
        rune = (shape == _ONE_TWO) & (carries_share < regime.runes / regime.one_in_two_out)
        carries = np.select([inscription, rune], [INSCRIPTION, RUNE], PAYMENT)

        many_in = np.rint(interpolate(regime.inputs, generator.uniform(regime.inputs[0][0], 1.0, _BLOCK))).astype(int)
        many_out = np.rint(interpolate(regime.outputs, generator.uniform(regime.outputs[0][0], 1.0, _BLOCK))).astype(
            int
        )
        share = generator.random(_BLOCK)
        to_one = (share < _SEVERAL_TO_ONE) | (many_in > _SWEEP)
        several_out = np.where(to_one, 1, np.where(share < _SEVERAL_TO_AT_MOST_TWO, 2, many_out))
        inputs = np.where(shape == _SEVERAL, many_in, 1)
        outputs = np.choose(shape, [1, 2, several_out, many_out])

        # What carries an inscription or a rune takes the low end of the amounts, the rest has the others.
        total = interpolate(regime.total_output_sat, tokens + (1.0 - tokens) * generator.random(_BLOCK))
        rate = interpolate(regime.fee_rate, generator.random(_BLOCK))
        data = interpolate(regime.inscription_size, generator.random(_BLOCK))
        columns = (carries, inputs, outputs, total, rate, data)
        yield from map(Plan._make, zip(*(column.tolist() for column in columns), strict=True))
