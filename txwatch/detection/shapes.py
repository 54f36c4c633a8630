"""Detectors that look at the shape of a transaction: dust to many, mixing, merging, paying many."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.findings import Finding, column
from txwatch.detection.reasons import Reason, btc
from txwatch.features.batch import Coins, TransactionBatch
from txwatch.features.groups import distinct_by, member_of_same
from txwatch.wire.scripts import SCRIPT_TYPES

DUST_SAT = 1_000
"""No more than this is paid to be spent: markers, inscriptions and spam. Above it, an output is a payment."""

_OP_RETURN = SCRIPT_TYPES.index("op_return")
Floats = NDArray[np.float64]
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
