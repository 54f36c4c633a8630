"""Detectors that look at amounts: an absurd fee, a large move, a round amount out of old coins."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.findings import Finding, column
from txwatch.detection.packages import ParentsOf, no_parents
from txwatch.detection.reasons import SAT, Reason, btc, times
from txwatch.features.batch import TransactionBatch
from txwatch.features.groups import count_where, max_by, member_of_same
from txwatch.wire.scripts import SCRIPT_TYPES

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeeAccident:
    """A fee that nobody pays on purpose: large in itself, and far above what space costs.

    A large fee alone is no accident (20,000 inputs cost 0.7 BTC at 50 sat/vB), nor is a high rate alone (a bidding war
    pays it for a small transaction), nor is a fee above half of the input (ordinary in inscriptions).
    """

    min_fee_sat: float = 0.01 * SAT
    min_times_median: float = 20.0
    min_fee_rate: float = 500.0
    """sat/vB; counts while no median is known."""
    parents_of: ParentsOf = no_parents

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`. A fee that pays for unconfirmed parents too is judged with them."""
        fee, rate = column(features, "fee_sat"), column(features, "fee_rate")
        ratio = column(features, "fee_rate_over_median_1h")
        rows = np.flatnonzero((fee >= self.min_fee_sat) & self._is_absurd(rate, ratio)).tolist()
        parents_of = self.parents_of(batch, rows)
        for row in rows:
            share = fee[row] / (fee[row] + batch.value_sat[row])
            text = f"fee of {btc(fee[row])}, {share:.0%} of what was spent, at {rate[row]:,.0f} sat/vB"
            if not np.isnan(ratio[row]):
                text += f", {times(ratio[row])} the median of the last hour"
            kind = "fee_accident"
            if (parents := parents_of.get(row)) is not None:
                package = (fee[row] + parents.fee_sat) / (batch.vsize[row] + parents.vsize)
                if not parents.known:
                    kind = "package_fee"
                    text += "; it may pay for unconfirmed parents as well, which cannot be told for certain"
                elif not self._is_absurd(package, ratio[row] * package / rate[row]):
                    continue
                else:
                    of = "parent" if parents.count == 1 else f"{parents.count:,} parents"
                    text += f"; {package:,.0f} sat/vB together with its unconfirmed {of}"
            yield row, Reason(kind, text, "fee_sat", float(fee[row]))

    def _is_absurd(self, rate: Floats, ratio: Floats) -> NDArray[np.bool_]:
        """Of fee rates in sat/vB and as multiples of the median, NaN for none."""
        return np.where(np.isnan(ratio), rate >= self.min_fee_rate, ratio >= self.min_times_median)


@dataclass(frozen=True)
class Whale:
    """A large value that likely changed hands: outputs without the sender's change."""

    min_moved_sat: float

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        moved = column(features, "moved_sat")
        for row in np.flatnonzero(moved >= self.min_moved_sat):
            text = f"{btc(moved[row])} likely moved"
            if batch.value_sat[row] > moved[row]:
                text += f", of outputs of {btc(float(batch.value_sat[row]))}"
            yield int(row), Reason("whale", text, "moved_sat", float(moved[row]))


@dataclass(frozen=True)
class DormantRoundMove:
    """An exactly round, large amount out of old-style coins whose addresses were silent in the last day.

    The feed does not say how old a coin is. What it does say: the type of address in use before 2017 (P2PK, P2PKH),
    few coins, and no change to an address that was spent from, as a service in use would take it.
    """

    min_sat: int = 100 * SAT
    round_sat: int = 10 * SAT
    max_inputs: int = 10

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        old = np.isin(inputs.type, [SCRIPT_TYPES.index("p2pk"), SCRIPT_TYPES.index("p2pkh")])
        all_old = count_where(inputs.tx, ~old, n) == 0
        returned = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
        round_ = (outputs.value >= self.min_sat) & (outputs.value % self.round_sat == 0) & ~returned
        amount = np.nan_to_num(max_by(outputs.tx, np.where(round_, outputs.value, 0.0), n))
        kept_its_address = count_where(outputs.tx, returned, n) > 0
        silent = ~(column(features, "input_address_tx_24h") > 0)  # unknown counts as silent
        few = column(features, "input_count") <= self.max_inputs
        for row in np.flatnonzero((amount > 0) & all_old & few & silent & ~kept_its_address):
            text = f"exactly {btc(amount[row])} out of old-style coins without activity in the last day"
            yield int(row), Reason("dormant_round_move", text, "value_sat", float(amount[row]))
