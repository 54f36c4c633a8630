"""The outline of ordinary transactions: shape, counts, amount, fee rate, drawn from a regime in whole blocks.

Belongs here: what is drawn of a transaction by itself. Who is paid with which coins is in `ordinary.py`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from txwatch.simulator.regimes import Regime, interpolate

_ONE_ONE, _ONE_TWO, _SEVERAL, _BATCH = range(4)
_SEVERAL_TO_ONE, _SEVERAL_TO_AT_MOST_TWO = 0.35, 0.8
_SWEEP = 20
"""With more inputs than this it is a consolidation, into one output."""


class Plans(NamedTuple):
    """Outlines, one entry a transaction. `total_sat` is the sum of outputs to aim at, `fee_rate` in sat/vB."""

    inscription: npt.NDArray[np.bool_]
    rune: npt.NDArray[np.bool_]
    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]
    total_sat: npt.NDArray[np.int64]
    fee_rate: npt.NDArray[np.float64]
    inscription_bytes: npt.NDArray[np.int64]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Plans":
        """These of them."""
        columns: list[Any] = [column[chosen] for column in self]
        return Plans._make(columns)


def draw_plans(regime: Regime, generator: np.random.Generator, n: int) -> Plans:
    """n outlines."""
    limits = np.cumsum([regime.one_in_one_out, regime.one_in_two_out, regime.several_in])
    tokens = regime.inscriptions + regime.runes
    shape = np.searchsorted(limits, generator.random(n), side="right")
    carries_share = generator.random(n)
    many_in = np.rint(interpolate(regime.inputs, generator.uniform(regime.inputs[0][0], 1.0, n))).astype(int)
    many_out = np.rint(interpolate(regime.outputs, generator.uniform(regime.outputs[0][0], 1.0, n))).astype(int)
    share = generator.random(n)
    to_one = (share < _SEVERAL_TO_ONE) | (many_in > _SWEEP)
    several_out = np.where(to_one, 1, np.where(share < _SEVERAL_TO_AT_MOST_TWO, 2, many_out))
    return Plans(
        inscription=(shape == _ONE_ONE) & (carries_share < regime.inscriptions / regime.one_in_one_out),
        rune=(shape == _ONE_TWO) & (carries_share < regime.runes / regime.one_in_two_out),
        inputs=np.where(shape == _SEVERAL, many_in, 1),
        outputs=np.choose(shape, [1, 2, several_out, many_out]),
        # What carries an inscription or a rune takes the low end of the amounts, the rest has the others.
        total_sat=interpolate(regime.total_output_sat, tokens + (1.0 - tokens) * generator.random(n)).astype(int),
        fee_rate=interpolate(regime.fee_rate, generator.random(n)),
        inscription_bytes=interpolate(regime.inscription_size, generator.random(n)).astype(int),
    )
