"""The context of what is arriving now: one snapshot for each window.

A transaction in window W sees the context as of W - 2, which was published while W - 1 was open. A newer version, after
a recovery, changes nothing for the rest of W.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from txwatch.clock import context_window, window_start
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch, input_addresses
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.network import read_network_context
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection
from txwatch.wire.transaction import Transaction


@dataclass
class _Snapshot:
    """One window's context. `addresses` holds what was asked for so far, None for those without activity."""

    window: datetime
    network: NetworkContext
    addresses: dict[str, AddressActivity | None] = field(default_factory=dict)


class LiveContext:
    """Gives micro-batches their contexts. For one thread at a time.

    Until the context of a window is published its transactions have version 0, and each batch looks again: a late
    window lane must not hold up an alert.
    """

    def __init__(self, connection: Connection, lookup: Callable[[datetime], NetworkContext] | None = None) -> None:
        self._connection = connection
        self._lookup = lookup or partial(read_network_context, connection)
        self._snapshot: _Snapshot | None = None

    def split(self, transactions: Sequence[Transaction]) -> Iterator[tuple[list[Transaction], Context]]:
        """The transactions by window, in order of time, each group with its context.

        Raises psycopg.OperationalError when the database is away.
        """
        ordered = sorted(transactions, key=lambda tx: tx.seen_at)
        for window, group in groupby(ordered, key=lambda tx: window_start(tx.seen_at)):
            batch = list(group)
            yield batch, self._context(window, batch)

    def _context(self, window: datetime, transactions: Sequence[Transaction]) -> Context:
        snapshot = self._snapshot
        if snapshot is None or snapshot.window != window or snapshot.network.version == 0:
            snapshot = self._snapshot = _Snapshot(window, self._lookup(context_window(window)))
        if snapshot.network.version == 0:
            return Context(snapshot.network)
        known = snapshot.addresses
        wanted = input_addresses(transactions)
        if new := wanted - known.keys():
            found = read_address_context(self._connection, snapshot.network, new)
            known.update((address, found.get(address)) for address in new)
        active = ((address, known[address]) for address in wanted)
        return Context(snapshot.network, {address: activity for address, activity in active if activity is not None})


def features_of(connection: Connection, transaction: Transaction) -> NDArray[np.float64]:
    """The features of one transaction in the newest published context, of shape (len(FEATURE_NAMES),)."""
    ((batch, context),) = LiveContext(connection).split([transaction])
    return transaction_features(TransactionBatch.of(batch), context).ravel()
