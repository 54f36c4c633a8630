"""Three months of Bitcoin traffic as distributions, measured on real transactions, to calibrate the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Knots = Mapping[float, float]
"""A distribution: the value at each share from 0 to 1, interpolated on the logarithm of the value."""

TOTAL_OUTPUT_SAT: Knots = {
    0.0: 294,
    0.2: 546,
    0.3: 1_500,
    0.4: 12_000,
    0.5: 70_000,
    0.7: 800_000,
    0.9: 13_000_000,
    0.95: 89_000_000,
    0.954: 100_000_000,
    0.9893: 1_000_000_000,
    0.99: 1_060_000_000,
    0.9957: 5_000_000_000,
    0.998: 10_000_000_000,
    0.999: 16_600_000_000,
    0.99963: 50_000_000_000,
    0.99981: 100_000_000_000,
    1.0: 197_500_000_000,
}
"""Sum of a transaction's outputs, satoshi: 16,049 transactions of 2024 and 2025. One table for all three regimes."""


@dataclass(frozen=True)
class Regime:
    """The traffic of one month.

    The four shares from `one_in_one_out` to `batch` (one input, three or more outputs) add up to 1. `inputs` and
    `outputs` are distributions of counts over all transactions. `script_types` are shares of inputs, `payee_types` of
    outputs to others.
    """

    name: str
    transactions_per_second: float
    dispersion: float
    """Variance over mean of the arrivals per second."""
    fee_rate: Knots
    """sat/vB."""
    one_in_one_out: float
    one_in_two_out: float
    several_in: float
    batch: float
    inputs: Knots
    outputs: Knots
    inscriptions: float
    """Share of transactions with an inscription: one taproot input with data in its witness, one output."""
    inscription_size: Knots
    """Bytes of the witness of such an input."""
    runes: float
    """Share of transactions with a rune: one taproot input, one OP_RETURN and one dust output."""
    script_types: Mapping[str, float]
    payee_types: Mapping[str, float]


_MARCH_2024 = Regime(
    name="2024-03",
    transactions_per_second=5.5,
    dispersion=4.3,
    fee_rate={0.0: 10.3, 0.1: 11.0, 0.3: 12.2, 0.5: 14.8, 0.7: 18, 0.9: 28, 0.95: 33, 0.99: 70, 0.999: 238, 1.0: 400},
    one_in_one_out=0.44,
    one_in_two_out=0.29,
    several_in=0.204,
    batch=0.066,
    inputs={0.796: 2, 0.9: 3, 0.95: 5, 0.97: 10, 0.99: 98, 0.999: 500, 1.0: 1_200},
    outputs={0.893: 3, 0.95: 5, 0.99: 23, 0.999: 102, 1.0: 400},
    inscriptions=0.34,
    inscription_size={0.0: 110, 0.1: 205, 0.5: 235, 0.8: 300, 0.9: 400, 0.98: 800, 1.0: 20_000},
    runes=0.0,
    script_types={"p2wpkh": 0.58, "p2tr": 0.19, "p2sh": 0.10, "p2pkh": 0.09, "p2wsh": 0.03},
    payee_types={"p2wpkh": 0.42, "p2sh": 0.21, "p2pkh": 0.17, "p2tr": 0.17, "p2wsh": 0.03},
)

_OCTOBER_2024 = Regime(
    name="2024-10",
    transactions_per_second=5.5,
    dispersion=3.8,
    fee_rate={0.0: 1.0, 0.1: 2.2, 0.3: 3.1, 0.5: 3.8, 0.7: 4.7, 0.9: 8, 0.95: 11, 0.99: 26, 0.999: 90, 1.0: 220},
    one_in_one_out=0.05,
    one_in_two_out=0.86,
    several_in=0.037,
    batch=0.053,
    inputs={0.963: 2, 0.982: 2, 0.99: 6, 0.995: 10, 0.999: 100, 1.0: 400},
    outputs={0.9396: 3, 0.955: 3, 0.99: 5, 0.999: 17, 1.0: 120},
    inscriptions=0.01,
    inscription_size={0.0: 110, 0.5: 300, 0.9: 900, 1.0: 20_000},
    runes=0.40,
    script_types={"p2wpkh": 0.76, "p2tr": 0.08, "p2sh": 0.06, "p2pkh": 0.08, "p2wsh": 0.02},
    payee_types={"p2wpkh": 0.48, "p2sh": 0.16, "p2pkh": 0.15, "p2tr": 0.18, "p2wsh": 0.03},
)

_JULY_2025 = Regime(
    name="2025-07",
    transactions_per_second=5.5,
    dispersion=4.6,
    fee_rate={0.0: 1.0, 0.1: 1.2, 0.3: 2.1, 0.5: 3.0, 0.7: 3.9, 0.9: 6, 0.95: 9, 0.99: 21, 0.999: 70, 1.0: 180},
    one_in_one_out=0.30,
    one_in_two_out=0.37,
    several_in=0.18,
    batch=0.15,
    inputs={0.82: 2, 0.95: 4, 0.967: 7, 0.99: 19, 0.999: 288, 1.0: 900},
    outputs={0.814: 3, 0.95: 5, 0.99: 19, 0.999: 155, 1.0: 500},
    inscriptions=0.12,
    inscription_size={0.0: 110, 0.5: 160, 0.8: 300, 0.9: 500, 0.98: 1_500, 1.0: 60_000},
    runes=0.12,
    script_types={"p2wpkh": 0.69, "p2tr": 0.20, "p2sh": 0.04, "p2pkh": 0.05, "p2wsh": 0.02},
    payee_types={"p2wpkh": 0.50, "p2sh": 0.11, "p2pkh": 0.12, "p2tr": 0.24, "p2wsh": 0.03},
)

REGIMES: Mapping[str, Regime] = {r.name: r for r in (_MARCH_2024, _OCTOBER_2024, _JULY_2025)}


def regime_named(name: str) -> Regime:
    """The regime of this name. Raises ValueError that lists those there are."""
    try:
        return REGIMES[name]
    except KeyError:
        raise ValueError(f"no regime {name!r}; there are {', '.join(REGIMES)}") from None


def interpolate(knots: Knots, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The values at these shares (0 to 1), linear between the knots on the logarithm of the value."""
    values: npt.NDArray[np.float64] = np.exp(np.interp(shares, list(knots), np.log(list(knots.values()))))
    return values
