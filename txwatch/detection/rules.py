"""The rules: an absurd fee, a large move, silent coins, dust, mixing, merging, flows, and watched addresses."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.packages import ParentsOf, no_parents
from txwatch.detection.reasons import SAT, Reason, btc, times
from txwatch.features.batch import NO_ADDRESS, Coins, TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.transaction import count_where, distinct_by, max_by, member_of_same
from txwatch.labels.flows import Coin, flow_of
from txwatch.labels.label import Known
from txwatch.wire.transaction import SCRIPT_TYPES

Finding = tuple[int, Reason]
"""A transaction's row in the batch, and what is said of it."""


def column(features: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """One feature of every row."""
    values: NDArray[np.float64] = features[:, FEATURE_NAMES.index(name)]
    return values


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


DUST_SAT = 1_000
"""No more than this is paid to be spent: markers, inscriptions and spam. Above it, an output is a payment."""

_OP_RETURN = SCRIPT_TYPES.index("op_return")
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SharedAmount:
    """Of each transaction, the amount that goes to most addresses: in satoshi, and to how many. 0 and 0 for none."""

    amount: Floats
    addresses: Floats


def shared_amount(coins: Coins, wanted: Flags, n: int) -> SharedAmount:
    """The amount that most different addresses receive, among the wanted coins of each of n transactions."""
    amount, addresses = np.zeros(n), np.zeros(n)
    keep = wanted & (coins.address >= 0)
    triples = np.unique(
        np.column_stack([coins.tx[keep], coins.value[keep].astype(np.int64), coins.address[keep]]), axis=0
    )
    if len(triples):
        pairs, counts = np.unique(triples[:, :2], axis=0, return_counts=True)
        order = np.argsort(counts, kind="stable")  # the last write of a row wins: the largest count
        amount[pairs[order, 0]] = pairs[order, 1]
        addresses[pairs[order, 0]] = counts[order]
    return SharedAmount(amount, addresses)


@dataclass(frozen=True)
class DustStorm:
    """The same dust to many addresses that are not the sender's. Storms are many such transactions in minutes.

    Wallets that cut their own coins into carriers of inscriptions pay the same dust too, but to an address or two.
    """

    min_addresses: int = 20

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        """See `Detector.find`."""
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        own = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
        dust = (outputs.value > 0) & (outputs.value <= DUST_SAT) & (outputs.type != _OP_RETURN)
        shared = shared_amount(outputs, dust & ~own, n)
        for row in np.flatnonzero(shared.addresses >= self.min_addresses):
            text = f"{btc(shared.amount[row])} of dust to each of {shared.addresses[row]:,.0f} addresses"
            yield int(row), Reason("dust_storm", text, "dust_outputs", float(shared.addresses[row]))


@dataclass(frozen=True)
class Coinjoin:
    """The same amount to several addresses, and at least as many addresses spent from: one of each for every owner.

    The test of Goldfeder et al., "When the cookie meets the blockchain" (2018), as BlockSci has it, with dust left out
    (inscriptions repeat it) and addresses counted instead of outputs (a wallet that cuts its own coins pays itself).
    """

    min_owners: int = 5

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        """See `Detector.find`."""
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        shared = shared_amount(outputs, (outputs.value > DUST_SAT) & (outputs.type != _OP_RETURN), n)
        spent_from = _distinct_addresses(inputs, n)
        for row in np.flatnonzero((shared.addresses >= self.min_owners) & (spent_from >= shared.addresses)):
            text = (
                f"{btc(shared.amount[row])} to each of {shared.addresses[row]:,.0f} addresses,"
                f" from {spent_from[row]:,.0f} addresses: likely a coinjoin"
            )
            yield int(row), Reason("coinjoin", text, "equal_output_count", float(shared.addresses[row]))


@dataclass(frozen=True)
class Consolidation:
    """Many coins merged into one output. Thousands of them are a kind of their own, which alerts."""

    min_inputs: int = 10
    huge_inputs: int = 2_000

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        """See `Detector.find`."""
        count = column(features, "input_count")
        for row in np.flatnonzero((count >= self.min_inputs) & (column(features, "output_count") == 1)):
            kind = "huge_consolidation" if count[row] >= self.huge_inputs else "consolidation"
            text = f"{count[row]:,.0f} coins merged into one output of {btc(float(batch.value_sat[row]))}"
            yield int(row), Reason(kind, text, "input_count", float(count[row]))


@dataclass(frozen=True)
class BatchPayout:
    """A few coins pay many addresses at once, mostly more than dust: a service that pays its customers."""

    min_addresses: int = 10
    min_outputs_per_input: float = 3.0

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        """See `Detector.find`."""
        payees = column(features, "distinct_output_addresses")
        for row in np.flatnonzero(self.fits(features)):
            text = f"payout of {btc(float(batch.value_sat[row]))} to {payees[row]:,.0f} addresses at once"
            yield int(row), Reason("batch_payout", text, "output_count", float(payees[row]))

    def fits(self, features: Floats) -> Flags:
        """Which rows it is."""
        payees = column(features, "distinct_output_addresses")
        spread = column(features, "outputs_per_input") >= self.min_outputs_per_input
        paid_more_than_dust = column(features, "dust_outputs") < payees / 2
        return (payees >= self.min_addresses) & spread & paid_more_than_dust


def _distinct_addresses(coins: Coins, n: int) -> Floats:
    known = coins.address >= 0
    return distinct_by(coins.tx[known], coins.address[known], n)


@dataclass(frozen=True)
class LabelledFlow:
    """A flow that labels tell of. Only large transactions are looked at, so that ordinary ones cost no look-up."""

    labels_of: Callable[[Iterable[str]], Mapping[str, Known]]
    min_sat: float
    min_inputs: int

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:
        """See `Detector.find`."""
        large = (batch.value_sat >= self.min_sat) | (column(features, "input_count") >= self.min_inputs)
        coins = {
            row: (_coins(batch, batch.inputs, row), _coins(batch, batch.outputs, row))
            for row in np.flatnonzero(large).tolist()
        }
        addresses = {
            address for sides in coins.values() for side in sides for address, _ in side if address is not None
        }
        known = self.labels_of(addresses) if addresses else {}
        if not known:
            return
        for row, (inputs, outputs) in coins.items():
            flow = flow_of(inputs, outputs, known)
            if flow.kind != "unknown":
                yield row, Reason(flow.kind, flow.text)


def _coins(batch: TransactionBatch, coins: Coins, row: int) -> list[Coin]:
    first, last = np.searchsorted(coins.tx, [row, row + 1])
    numbers, values = coins.address[first:last].tolist(), coins.value[first:last].tolist()
    return [
        (None if number == NO_ADDRESS else batch.addresses[number], value)
        for number, value in zip(numbers, values, strict=True)
    ]


@dataclass(frozen=True)
class WatchListed:
    """A watched address is spent from or paid to. `known` says of each watched address what is known of it."""

    known: Mapping[str, str] = field(default_factory=dict)

    def find(self, batch: TransactionBatch, features: NDArray[np.float64]) -> Iterator[Finding]:  # noqa: ARG002
        """See `Detector.find`. One reason for each watched address and side."""
        watched = [number for number, address in enumerate(batch.addresses) if address in self.known]
        for coins, words in ((batch.inputs, "spends from"), (batch.outputs, "pays to")):
            hit = np.isin(coins.address, watched)
            for row, number in sorted(set(zip(coins.tx[hit].tolist(), coins.address[hit].tolist(), strict=True))):
                address = batch.addresses[number]
                yield row, Reason("watch_listed", f"{words} watched address {address} ({self.known[address]})")
