"""The detectors of coinjoins, and of the coins cut before one. `coinjoin_protocols.py` tells the protocols apart."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from txwatch.detection.coinjoin_protocols import (
    ABOVE_POOL_SAT,
    FEW_OWNERS,
    POOL_FEE_PERCENT,
    POOL_FEES_SAT,
    STONEWALL_COINS,
    Protocol,
    Round,
    is_stonewall,
    protocol_of,
    whirlpool_tx0,
)
from txwatch.detection.detector import Detector, Finding, column
from txwatch.detection.reasons import Reason, btc
from txwatch.features.batch import NO_ADDRESS, Coins, Flags, Floats, TransactionBatch
from txwatch.features.transaction import count_where, distinct_by
from txwatch.wire.transaction import SCRIPT_TYPES

DUST_SAT = 1_000
"""No more than this is paid to be spent: markers, inscriptions and spam. Above it, an output is a payment."""

_OP_RETURN = SCRIPT_TYPES.index("op_return")


def shared_amount(coins: Coins, wanted: Flags, n: int) -> tuple[Floats, Floats]:
    """The amount that most different addresses receive, among the wanted coins of each of n transactions.

    In satoshi, and how many addresses receive it. 0 and 0 for none.
    """
    amount, addresses = np.zeros(n), np.zeros(n)
    keep = wanted & (coins.address >= 0)
    columns = (coins.tx[keep], coins.value[keep].astype(np.int64), coins.address[keep])
    triples = np.unique(np.column_stack(columns), axis=0)
    if len(triples):
        pairs, counts = np.unique(triples[:, :2], axis=0, return_counts=True)
        order = np.argsort(counts, kind="stable")  # the last write of a row wins: the largest count
        amount[pairs[order, 0]] = pairs[order, 1]
        addresses[pairs[order, 0]] = counts[order]
    return amount, addresses


@dataclass(frozen=True)
class Coinjoin(Detector):
    """The same amount to several addresses, and at least as many addresses spent from: one of each for every owner.

    The test of Goldfeder et al., "When the cookie meets the blockchain" (2018), as BlockSci has it, with dust left out
    (inscriptions repeat it) and addresses counted instead of outputs (a wallet that cuts its own coins pays itself).
    Where a protocol is told, it is said beside it; fewer owners count only if their coins balance apart.
    """

    kinds = ("coinjoin", "whirlpool", "wasabi_2", "wasabi_1", "joinmarket")
    min_owners: int = 5

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        amount, addresses = shared_amount(outputs, (outputs.value > DUST_SAT) & (outputs.type != _OP_RETURN), n)
        known = inputs.address >= 0
        spent_from = distinct_by(inputs.tx[known], inputs.address[known], n)
        many = (addresses >= self.min_owners) & (spent_from >= addresses)
        for row in np.flatnonzero(many | ((addresses >= FEW_OWNERS[0]) & (spent_from >= FEW_OWNERS[0]))).tolist():
            protocol = protocol_of(_round(batch, row))
            if protocol is not None and protocol.kind not in self.kinds:
                continue  # one owner cuts coins
            if many[row] or (protocol is not None and protocol.kind != "coinjoin"):
                text = (
                    f"{btc(amount[row])} to each of {addresses[row]:,.0f} addresses,"
                    f" from {spent_from[row]:,.0f} addresses: likely a coinjoin"
                )
                yield row, Reason("coinjoin", text, "equal_output_count", float(addresses[row]))
            if protocol is not None:
                yield row, _reason(protocol)

    def likely(self, features: Floats) -> Flags:
        equal, inputs = column(features, "equal_output_count"), column(features, "input_count")
        payees = column(features, "distinct_output_addresses")
        likely: Flags = (equal >= self.min_owners) & (inputs >= equal) & (payees >= equal)
        return likely


@dataclass(frozen=True)
class WhirlpoolTx0(Detector):
    """One owner cuts coins for a Whirlpool pool, and pays its coordinator: its rounds come next."""

    kinds = ("whirlpool_tx0",)

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        fees = [fee * percent // 100 for fee in POOL_FEES_SAT.values() for percent in POOL_FEE_PERCENT]
        n, outputs = len(batch), batch.outputs
        pays_fee = count_where(outputs.tx, np.isin(outputs.value, fees), n) > 0
        cuts = np.zeros(len(outputs.tx), np.bool_)
        for pool in POOL_FEES_SAT:
            cuts |= (outputs.value >= pool + ABOVE_POOL_SAT[0]) & (outputs.value <= pool + ABOVE_POOL_SAT[-1])
        candidates = pays_fee & (count_where(outputs.tx, cuts, n) > 0) & (column(features, "op_return_outputs") == 1)
        for row in np.flatnonzero(candidates).tolist():
            if (protocol := whirlpool_tx0(_round(batch, row))) is not None:
                yield row, _reason(protocol)


@dataclass(frozen=True)
class Stonewall(Detector):
    """A payment made to resemble a coinjoin of two, or one: so none is claimed, and its form is no news."""

    kinds = ("stonewall",)

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        for row in np.flatnonzero(self.likely(features)).tolist():
            round_ = _round(batch, row)
            if is_stonewall(round_):
                text = f"{btc(round_.amount)} paid twice, out of two sets of coins that balance apart"
                yield row, Reason("stonewall", text, "equal_output_count", 2.0)

    def likely(self, features: Floats) -> Flags:
        inputs, outputs = column(features, "input_count"), column(features, "output_count")
        few = (inputs >= STONEWALL_COINS[0]) & (inputs <= STONEWALL_COINS[-1]) & (outputs == 4)
        likely: Flags = few & (column(features, "equal_output_count") == 2)
        return likely


def _reason(protocol: Protocol) -> Reason:
    return Reason(protocol.kind, f"{protocol.text} ({int(100 * protocol.confidence)} % sure)")


def _round(batch: TransactionBatch, row: int) -> Round:
    spent, paid = _coins(batch.inputs, row), _coins(batch.outputs, row)
    can_be_spent = paid.type != _OP_RETURN
    return Round(
        inputs=[None if math.isnan(value) else int(value) for value in spent.value.tolist()],
        outputs=paid.value[can_be_spent].astype(np.int64).tolist(),
        input_types=[SCRIPT_TYPES[code] for code in spent.type.tolist()],
        output_types=[SCRIPT_TYPES[code] for code in paid.type[can_be_spent].tolist()],
        senders=_addresses(spent),
        receivers=_addresses(paid),
        has_message=not can_be_spent.all(),
    )


def _coins(coins: Coins, row: int) -> Coins:
    own = slice(*np.searchsorted(coins.tx, [row, row + 1]))
    return Coins(coins.tx[own], coins.value[own], coins.type[own], coins.address[own])


def _addresses(coins: Coins) -> int:
    return len(np.unique(coins.address[coins.address != NO_ADDRESS]))
