"""Transactions that are mined together: a child whose fee pays for its unconfirmed ancestors as well.

Where a source says which transaction made a coin, all ancestors are known exactly. Of other coins the parents are known
by the address, value and type of their outputs, where only one transaction of the table has such an output.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from txwatch.clock import EPOCH
from txwatch.features.batch import NO_ADDRESS, TransactionBatch
from txwatch.store.database import Connection, statement
from txwatch.wire.transaction import SCRIPT_TYPES, UNCONFIRMED

LARGEST_PACKAGE = 25
"""Transactions, the child among them: DEFAULT_ANCESTOR_LIMIT of Bitcoin Core before 31 (policy.h).

Core 31 takes clusters of 64. Of a larger package than this, not all is known.
"""


@dataclass(frozen=True)
class Parents:
    """The unconfirmed ancestors of a transaction: how many, their fees in satoshi and their size in vB, all together.

    Not `known` if a coin may be of several transactions, if an ancestor is not stored, or if a fee is not known.
    """

    count: int
    fee_sat: int
    vsize: int
    known: bool


ParentsOf = Callable[[TransactionBatch, Sequence[int]], Mapping[int, Parents]]
"""Gives those of these rows of a batch that have unconfirmed ancestors."""


def no_parents(_batch: TransactionBatch, _rows: Sequence[int]) -> Mapping[int, Parents]:
    """Where there is no table to look into, each transaction stands for itself."""
    return {}


def stored_parents(connection: Connection) -> ParentsOf:
    """The unconfirmed ancestors that are in the table: one query for all rows, and one more for coins without txid."""
    return partial(_parents_of, connection)


@dataclass(frozen=True)
class _Maker:
    """A transaction that made a coin that is spent, or one like it. Without a `vsize` it is not stored."""

    fee_sat: int | None
    vsize: int | None
    confirmed: bool = False


@dataclass(frozen=True)
class _Origin:
    """A transaction that made a coin of a row, as far as is known. `waits`: its source says that it is unconfirmed."""

    row: int
    txid: str
    waits: bool


def _parents_of(connection: Connection, batch: TransactionBatch, rows: Sequence[int]) -> dict[int, Parents]:
    coins = np.flatnonzero(np.isin(batch.inputs.tx, list(rows))).tolist()
    guessed = _makers_alike(connection, batch, [coin for coin in coins if batch.spent_txids[coin] is None])
    origins = {*_told_origins(batch, coins), *_only_makers(guessed)}
    ancestors = _ancestors(connection, batch, origins)
    found = {row: _together(guessed.get(row, {}).values(), ancestors.get(row, {})) for row in guessed | ancestors}
    return {row: parents for row, parents in found.items() if parents.count}


def _seen_at(batch: TransactionBatch, row: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(batch.seen_us[row]))


def _told_origins(batch: TransactionBatch, coins: Sequence[int]) -> Iterator[_Origin]:
    """The makers of coins that are not told to be of a block."""
    for coin in coins:
        txid, height = batch.spent_txids[coin], batch.input_height[coin]
        if txid is not None and (np.isnan(height) or height == UNCONFIRMED):
            yield _Origin(int(batch.inputs.tx[coin]), txid, waits=height == UNCONFIRMED)


def _only_makers(guessed: Mapping[int, Mapping[int, Mapping[str, _Maker]]]) -> Iterator[_Origin]:
    for row, makers_of in guessed.items():
        for makers in makers_of.values():
            for txid, maker in makers.items():
                if len(makers) == 1 and not maker.confirmed:
                    yield _Origin(row, txid, waits=True)


def _ancestors(
    connection: Connection, batch: TransactionBatch, origins: Iterable[_Origin]
) -> dict[int, dict[str, _Maker]]:
    """The unconfirmed ones of these, and theirs, by row and txid."""
    given = list(origins)
    if not given:
        return {}
    found = connection.execute(
        statement("detection", "unconfirmed_ancestors"),
        {
            "rows": [one.row for one in given],
            "txids": [one.txid for one in given],
            "waits": [one.waits for one in given],
            "seen_at": [_seen_at(batch, one.row) for one in given],
            "unconfirmed": UNCONFIRMED,
            "most": 2 * LARGEST_PACKAGE,  # each is found twice at most: told to be unconfirmed or not
        },
    )
    ancestors: dict[int, dict[str, _Maker]] = {}
    for row, txid, fee_sat, vsize in found:
        ancestors.setdefault(row, {})[txid] = _Maker(fee_sat, vsize)
    return ancestors


def _makers_alike(
    connection: Connection, batch: TransactionBatch, untold: Sequence[int]
) -> dict[int, dict[int, dict[str, _Maker]]]:
    """Who made a coin like each of these, whose sources do not tell it: by row, coin and txid."""
    inputs = batch.inputs
    alike = ((*(int(x[coin]) for x in (inputs.tx, inputs.address, inputs.type)), inputs.value[coin]) for coin in untold)
    coins = list({key: coin for coin, key in zip(untold, alike, strict=True) if not np.isnan(key[-1])}.values())
    if not coins:
        return {}
    of = [int(inputs.tx[i]) for i in coins]
    addresses = [int(inputs.address[i]) for i in coins]
    found = connection.execute(
        statement("detection", "unconfirmed_parents"),
        {
            "coins": coins,
            "txids": [batch.txids[row] for row in of],
            "addresses": [None if number == NO_ADDRESS else batch.addresses[number] for number in addresses],
            "values": [int(inputs.value[i]) for i in coins],
            "types": [SCRIPT_TYPES[inputs.type[i]] for i in coins],
            "seen_at": [_seen_at(batch, row) for row in of],
        },
    )
    made: dict[int, dict[int, dict[str, _Maker]]] = {}
    for coin, txid, *maker in found:
        made.setdefault(int(inputs.tx[coin]), {}).setdefault(coin, {})[txid] = _Maker(*maker)
    return made


def _together(makers_of_coins: Iterable[Mapping[str, _Maker]], ancestors: Mapping[str, _Maker]) -> Parents:
    """All parents of one transaction: by the makers of coins that may be several, and those that are certain."""
    parents = dict(ancestors)
    known = len(ancestors) < LARGEST_PACKAGE
    for makers in makers_of_coins:
        waiting = {txid: maker for txid, maker in makers.items() if not maker.confirmed}
        parents |= waiting
        known &= len(makers) == 1 or not waiting
    fees = [maker.fee_sat for maker in parents.values() if maker.fee_sat is not None]
    sizes = [maker.vsize for maker in parents.values() if maker.vsize is not None]
    known &= len(fees) == len(sizes) == len(parents)
    return Parents(len(parents), sum(fees), sum(sizes), known)
