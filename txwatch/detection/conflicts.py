"""Transactions that spend one coin: which ones a transaction replaces, and whom it does not pay any more."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np

from txwatch.clock import EPOCH
from txwatch.detection.detector import Detector, Finding
from txwatch.detection.reasons import Reason, btc
from txwatch.features.batch import NO_ADDRESS, Floats, TransactionBatch
from txwatch.features.transaction import likely_paid
from txwatch.store.database import Connection, statement
from txwatch.store.transactions import read_named_transactions
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import Transaction

ReplacedOf = Callable[[TransactionBatch], Mapping[int, list[Transaction]]]
"""Gives those rows of a batch that replace others, with these: unconfirmed ones until then."""


def nothing_replaced(_batch: TransactionBatch) -> Mapping[int, list[Transaction]]:
    """Where there is no table to look into, nothing is known to be replaced."""
    return {}


def stored_replaced(connection: Connection) -> ReplacedOf:
    """What is replaced, by the table: one query for a batch, and one more for what it finds."""
    return partial(_replaced_of, connection)


def _replaced_of(connection: Connection, batch: TransactionBatch) -> dict[int, list[Transaction]]:
    spent = {txid for txid in batch.spent_txids if txid is not None}
    if not spent:
        return {}
    found = connection.execute(
        statement("detection", "replaced"),
        {
            "txids": batch.txids,
            "seen_at": [EPOCH + timedelta(microseconds=moment) for moment in batch.seen_us.tolist()],
            "spent": list(spent),
        },
    ).fetchall()
    stored = {tx.txid: tx for tx in read_named_transactions(connection, list({txid for _, txid in found}))}
    replaced: dict[int, list[Transaction]] = {}
    for row, txid in found:
        replaced.setdefault(row, []).append(stored[txid])
    return replaced


def left_out(replaced: Transaction, payees: Set[str]) -> dict[str, int]:
    """The addresses that a transaction likely paid, and what, but for `payees`. In satoshi."""
    amounts: dict[str, int] = {}
    for output, is_paid in zip(replaced.outputs, likely_paid(TransactionBatch.of([replaced])).tolist(), strict=True):
        if is_paid and output.addr is not None and output.addr not in payees:
            amounts[output.addr] = amounts.get(output.addr, 0) + output.value
    return amounts


@dataclass(frozen=True)
class RedirectedReplacement(Detector):
    """A transaction replaces one that a source held, and does not pay whom that one likely paid."""

    kinds = ("replacement_redirected",)
    min_sat: int = SAT_PER_BTC // 10
    """Of what is not paid any more. Below it, cancelled payments and bids for inscriptions are ordinary."""
    replaced_of: ReplacedOf = nothing_replaced

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        outputs = batch.outputs
        for row, replaced in self.replaced_of(batch).items():
            numbers = np.unique(outputs.address[outputs.tx == row]).tolist()
            payees = {batch.addresses[number] for number in numbers if number != NO_ADDRESS}
            for transaction in replaced:
                amounts = left_out(transaction, payees)
                if (amount := sum(amounts.values())) >= self.min_sat:
                    to = next(iter(amounts)) if len(amounts) == 1 else f"{len(amounts):,} addresses"
                    text = f"takes the place of {transaction.txid[:8]}…, which paid {btc(amount)} to {to}"
                    text += ": this one does not"
                    yield row, Reason("replacement_redirected", text, "value_sat", float(amount))
