"""The context of what is arriving now: a snapshot for each window, taken once and swapped when the window rolls over.

A transaction in window W sees the context as of W - 2, which was published while W - 1 was open. The snapshot holds one
version of it: what is published for the same window later, after a recovery, changes nothing for the rest of W.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from txwatch.clock import context_window, window_start
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.network import read_network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection
from txwatch.wire.transaction import Transaction

NetworkLookup = Callable[[datetime], NetworkContext | None]
"""Gives the newest version of the context as of a window, None while there is none."""


@dataclass
class _Snapshot:
    """One window's context. `addresses` holds what was asked for so far, None for those without activity."""

    window: datetime
    network: NetworkContext
    addresses: dict[str, AddressActivity | None] = field(default_factory=dict)


class LiveContext:
    """Gives micro-batches their contexts. For one thread at a time.

    Until the context of a window is published its transactions are scored without one (version 0), and each batch
    looks again: the window lane may be late, but must not hold up an alert.
    """

    def __init__(self, connection: Connection, lookup: NetworkLookup | None = None) -> None:
        self._connection = connection
        self._lookup = lookup or stored_network(connection)
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
            as_of = context_window(window)
            snapshot = _Snapshot(window, self._lookup(as_of) or NetworkContext(as_of, version=0))
            self._snapshot = snapshot
        if snapshot.network.version == 0:
            return Context(snapshot.network)
        known = snapshot.addresses
        wanted = {spent.addr for tx in transactions for spent in tx.inputs if spent.addr is not None}
        if new := wanted - known.keys():
            found = read_address_context(self._connection, snapshot.network, new)
            known.update((address, found.get(address)) for address in new)
        active = ((address, known[address]) for address in wanted)
        return Context(snapshot.network, {address: activity for address, activity in active if activity is not None})


def features_of(connection: Connection, transaction: Transaction) -> NDArray[np.float64]:
    """The features of one transaction in the context that is published for it by now, of shape (len(FEATURE_NAMES),).

    The same as its window's, once that is computed, unless the context of then has a newer version by now.
    """
    ((batch, context),) = LiveContext(connection).split([transaction])
    features: NDArray[np.float64] = transaction_features(TransactionBatch.of(batch), context)[0]
    return features


def stored_network(connection: Connection) -> NetworkLookup:
    """The lookup in the table itself."""
    return lambda as_of: read_network_contexts(connection, [as_of]).get(as_of)
