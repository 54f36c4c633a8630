"""Transactions that are mined together: a child whose fee pays for its unconfirmed parents as well.

The feed does not say which transaction made a coin. Parents are told by the address, value and type of their outputs,
as far as those are of one transaction of the table only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from txwatch.features.batch import EPOCH, NO_ADDRESS, TransactionBatch
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.wire.scripts import SCRIPT_TYPES


@dataclass(frozen=True)
class Parents:
    """The unconfirmed parents of a transaction: how many, their fees in satoshi and their size in vB, all together.

    Not `known` if some cannot be told from others, or their fees are not known.
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
    return lambda batch, rows: _parents_of(connection, batch, rows)


def _parents_of(connection: Connection, batch: TransactionBatch, rows: Sequence[int]) -> dict[int, Parents]:
    if not rows:
        return {}
    wanted = set(rows)
    coins = [i for i, row in enumerate(batch.inputs.tx.tolist()) if row in wanted]
    of = [int(batch.inputs.tx[i]) for i in coins]
    addresses = [int(batch.inputs.address[i]) for i in coins]
    found = connection.execute(
        statement(__file__, "unconfirmed_parents"),
        {
            "coins": coins,
            "txids": [batch.txids[row] for row in of],
            "addresses": [None if number == NO_ADDRESS else batch.addresses[number] for number in addresses],
            "values": [int(batch.inputs.value[i]) for i in coins],
            "types": [SCRIPT_TYPES[batch.inputs.type[i]] for i in coins],
            "seen_at": [EPOCH + timedelta(microseconds=int(batch.seen_us[row])) for row in of],
        },
    )
    makers: dict[int, dict[str, tuple[int | None, int, bool]]] = {}
    for coin, txid, fee_sat, vsize, confirmed in found:
        makers.setdefault(coin, {})[txid] = (fee_sat, vsize, confirmed)
    return {row: parents for row in rows if (parents := _together(makers, batch, row)).count}


def _together(
    makers: Mapping[int, Mapping[str, tuple[int | None, int, bool]]], batch: TransactionBatch, row: int
) -> Parents:
    unconfirmed: dict[str, tuple[int | None, int]] = {}
    known = True
    for coin, made in makers.items():
        waiting = {txid: (fee, vsize) for txid, (fee, vsize, confirmed) in made.items() if not confirmed}
        if batch.inputs.tx[coin] == row and waiting:
            unconfirmed |= waiting
            known &= len(made) == 1
    fees = [fee for fee, _ in unconfirmed.values() if fee is not None]
    return Parents(
        len(unconfirmed),
        sum(fees),
        sum(vsize for _, vsize in unconfirmed.values()),
        known and len(fees) == len(unconfirmed),
    )
