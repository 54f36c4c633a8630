"""Transactions that are mined together: a child whose fee pays for its unconfirmed parents as well.

The feed does not say which transaction made a coin: parents are known by the address, value and type of their outputs,
where only one transaction of the table has such an output.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from txwatch.clock import EPOCH
from txwatch.features.batch import NO_ADDRESS, TransactionBatch
from txwatch.store.database import Connection, statement
from txwatch.wire.transaction import SCRIPT_TYPES


@dataclass(frozen=True)
class Parents:
    """The unconfirmed parents of a transaction: how many, their fees in satoshi and their size in vB, all together.

    Not `known` if a coin may be of several transactions, or if a fee is not known.
    """

    count: int
    fee_sat: int
    vsize: int
    known: bool


ParentsOf = Callable[[TransactionBatch, Sequence[int]], Mapping[int, Parents]]
"""Gives those of these rows of a batch that have unconfirmed parents."""


def no_parents(_batch: TransactionBatch, _rows: Sequence[int]) -> Mapping[int, Parents]:
    """Where there is no table to look into, each transaction stands for itself."""
    return {}


def stored_parents(connection: Connection) -> ParentsOf:
    """The unconfirmed parents that are in the table, one query for all rows."""
    return partial(_parents_of, connection)


def _parents_of(connection: Connection, batch: TransactionBatch, rows: Sequence[int]) -> dict[int, Parents]:
    if not rows:
        return {}
    wanted = set(rows)
    inputs = batch.inputs
    alike = zip(*(x.tolist() for x in (inputs.tx, inputs.address, inputs.value, inputs.type)), strict=True)
    coins = list({coin: i for i, coin in enumerate(alike) if coin[0] in wanted}.values())
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
            "seen_at": [EPOCH + timedelta(microseconds=int(batch.seen_us[row])) for row in of],
        },
    )
    made: dict[int, dict[int, dict[str, _Maker]]] = {}
    for coin, txid, *maker in found:
        made.setdefault(int(inputs.tx[coin]), {}).setdefault(coin, {})[txid] = _Maker(*maker)
    return {row: parents for row, coins_of in made.items() if (parents := _together(coins_of.values())).count}


@dataclass(frozen=True)
class _Maker:
    """A transaction that made a coin like a wanted one."""

    fee_sat: int | None
    vsize: int
    confirmed: bool


def _together(makers_of_coins: Iterable[Mapping[str, _Maker]]) -> Parents:
    """What one transaction's coins say of its parents, by the makers of each coin."""
    parents: dict[str, _Maker] = {}
    known = True
    for makers in makers_of_coins:
        waiting = {txid: maker for txid, maker in makers.items() if not maker.confirmed}
        parents |= waiting
        known &= len(makers) == 1 or not waiting
    fees = [maker.fee_sat for maker in parents.values() if maker.fee_sat is not None]
    size = sum(maker.vsize for maker in parents.values())
    return Parents(len(parents), sum(fees), size, known and len(fees) == len(parents))
