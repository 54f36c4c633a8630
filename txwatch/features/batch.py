"""Transactions as columns: one array a field, and one entry a coin, so that features are computed for all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from txwatch.wire.scripts import SCRIPT_TYPES
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TYPE_CODES = {name: code for code, name in enumerate(SCRIPT_TYPES)}
NO_ADDRESS = -1


@dataclass(frozen=True)
class Coins:
    """Inputs or outputs of a batch, ordered by transaction. All arrays have shape (coins,).

    `tx` is the transaction's row in the batch, `value` satoshi (NaN where unresolved), `type` a code of SCRIPT_TYPES,
    `address` a number that stands for the same address throughout the batch, NO_ADDRESS for none.
    """

    tx: Ints
    value: Floats
    type: Ints
    address: Ints


@dataclass(frozen=True)
class TransactionBatch:
    """A batch of n transactions. Amounts in satoshi, sizes in vB; NaN where unknown."""

    txids: list[str]
    value_sat: Ints
    fee_sat: Floats
    vsize: Ints
    weight: Ints
    size: Ints
    """Bytes with witness."""
    rbf: NDArray[np.bool_]
    version: Ints
    lock_time: Ints
    inputs: Coins
    outputs: Coins
    addresses: list[str]
    """The address that each number in Coins.address stands for."""

    def __len__(self) -> int:
        return len(self.txids)

    @classmethod
    def of(cls, transactions: Sequence[Transaction]) -> "TransactionBatch":
        """The columns of these transactions, in their order."""
        numbers: dict[str, int] = {}
        return cls(
            txids=[tx.txid for tx in transactions],
            value_sat=np.array([tx.value_sat for tx in transactions], np.int64),
            fee_sat=np.array([np.nan if tx.fee_sat is None else tx.fee_sat for tx in transactions], np.float64),
            vsize=np.array([tx.vsize for tx in transactions], np.int64),
            weight=np.array([tx.weight for tx in transactions], np.int64),
            size=np.array([tx.size for tx in transactions], np.int64),
            rbf=np.array([tx.rbf for tx in transactions], np.bool_),
            version=np.array([tx.version for tx in transactions], np.int64),
            lock_time=np.array([tx.lock_time for tx in transactions], np.int64),
            inputs=_coins([tx.inputs for tx in transactions], numbers),
            outputs=_coins([tx.outputs for tx in transactions], numbers),
            addresses=list(numbers),
        )


def _coins(groups: Sequence[Sequence[SpentOutput] | Sequence[CreatedOutput]], numbers: dict[str, int]) -> Coins:
    coins: list[SpentOutput | CreatedOutput] = list(chain.from_iterable(groups))
    return Coins(
        tx=np.repeat(np.arange(len(groups), dtype=np.int64), [len(group) for group in groups]),
        value=np.array([np.nan if coin.value is None else coin.value for coin in coins], np.float64),
        type=np.fromiter(map(_TYPE_CODES.__getitem__, (coin.type for coin in coins)), np.int64, len(coins)),
        address=np.fromiter(map(_number, (coin.addr for coin in coins), repeat(numbers)), np.int64, len(coins)),
    )


def _number(address: str | None, numbers: dict[str, int]) -> int:
    return NO_ADDRESS if address is None else numbers.setdefault(address, len(numbers))
