"""How much value really changed hands: a transaction's outputs without what its sender likely kept.

Outputs say nothing about who owns them, so this is an estimate with bounds, in satoshi:

- `high`: all that is paid to addresses which the transaction does not also spend from. What returns to an address that
  was spent from is change for certain.
- `likely`: `high` without the output that is most likely change.
- `low`: `high` without its largest output, which in the worst case is the change; 0 for a single output, which may be
  a transfer to oneself.

Change is recognised by the heuristics of Meiklejohn et al., "A Fistful of Bitcoins" (2013) and of BlockSci (2020), the
first that singles out one output: by script type (change returns to the type that was spent), by round amounts (people
pay round amounts, change is what is left), and by the optimal-change rule (change is smaller than every input, or one
input would not have been needed). If none does, a payment of two outputs counts as the smaller of them: hot wallets
peel small payments off large coins far more often than they spend nearly a whole coin.
A merger of CONSOLIDATION_INPUTS or more coins into one output is a wallet that tidies up: likely nothing moved.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.features.batch import Coins, TransactionBatch
from txwatch.features.groups import count_where, distinct_by, max_by, member_of_same, min_by, sum_by
from txwatch.wire.scripts import SCRIPT_TYPES

CONSOLIDATION_INPUTS = 10
ROUND_SAT = 100_000
"""0.001 BTC: an amount that is a multiple of this was typed by a person."""

_OP_RETURN = SCRIPT_TYPES.index("op_return")
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class MovedValue:
    """Estimates in satoshi, each of shape (n,)."""

    low: Floats
    likely: Floats
    high: Floats


def moved_value(batch: TransactionBatch) -> MovedValue:
    """What each transaction of a batch moved."""
    n, inputs, outputs = len(batch), batch.inputs, batch.outputs
    returned = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
    external = ~returned & (outputs.type != _OP_RETURN)
    paid = Coins(outputs.tx[external], outputs.value[external], outputs.type[external], outputs.address[external])
    count = count_where(outputs.tx, external, n)
    high = sum_by(paid.tx, paid.value, n)
    change_known = count_where(outputs.tx, returned, n) > 0
    largest = np.nan_to_num(max_by(paid.tx, paid.value, n))

    likely_change = np.zeros(n)
    open_ = ~change_known & (count >= 2)
    for candidates in (
        _by_script_type(batch, paid, n),
        _by_roundness(paid, n),
        _by_optimal_change(batch, paid, n),
        _larger_of_two(paid, count, largest),
    ):
        single = open_ & (count_where(paid.tx, candidates, n) == 1)
        likely_change = np.where(single, sum_by(paid.tx[candidates], paid.value[candidates], n), likely_change)
        open_ &= ~single

    input_count = np.bincount(inputs.tx, minlength=n)
    consolidation = ~change_known & (count == 1) & (input_count >= CONSOLIDATION_INPUTS)
    likely = np.where(consolidation, 0.0, high - likely_change)
    low = np.where(change_known, np.where(count >= 1, high, 0.0), high - largest)
    return MovedValue(np.minimum(low, likely), likely, high)


def _by_script_type(batch: TransactionBatch, paid: Coins, n: int) -> Flags:
    """The output of the one type that was spent, when others are of another."""
    spent_type = min_by(batch.inputs.tx, batch.inputs.type.astype(np.float64), n)
    spent_type[distinct_by(batch.inputs.tx, batch.inputs.type, n) != 1] = np.nan
    candidates: Flags = paid.type == spent_type[paid.tx]
    return candidates


def _by_roundness(paid: Coins, n: int) -> Flags:
    """The one output whose amount is not round, when all others are."""
    round_: Flags = (paid.value % ROUND_SAT == 0) & (paid.value > 0)
    others: Flags = (count_where(paid.tx, round_, n) > 0)[paid.tx]
    return ~round_ & others


def _by_optimal_change(batch: TransactionBatch, paid: Coins, n: int) -> Flags:
    """The one output that is smaller than every input, when there are several inputs."""
    smallest_input = min_by(batch.inputs.tx, batch.inputs.value, n)
    smallest_input[np.bincount(batch.inputs.tx, minlength=n) < 2] = np.nan
    candidates: Flags = paid.value < smallest_input[paid.tx]
    return candidates


def _larger_of_two(paid: Coins, count: Floats, largest: Floats) -> Flags:
    candidates: Flags = (count[paid.tx] == 2) & (paid.value == largest[paid.tx])
    return candidates
