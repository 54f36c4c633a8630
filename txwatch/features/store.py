"""`transaction_features` in Postgres: computed a window at a time, rewritten whole, read back in the same order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network_store import read_network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection
from txwatch.store.reading import read_transactions
from txwatch.windows import WINDOW, context_window, window_range
from txwatch.wire.transaction import Transaction

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))


@dataclass(frozen=True)
class WindowFeatures:
    """One window's transactions with their features, of shape (transactions, len(FEATURE_NAMES)), and context."""

    window_start: datetime
    transactions: Sequence[Transaction]
    features: NDArray[np.float64]
    context: Context


def write_features(connection: Connection, start: datetime, end: datetime) -> Iterator[WindowFeatures]:
    """Compute and rewrite the features of each window in [start, end), one database transaction each."""
    windows = window_range(start, end)
    networks = read_network_contexts(connection, [context_window(w) for w in windows])
    for window in windows:
        transactions = read_transactions(connection, window, window + WINDOW)
        as_of = context_window(window)
        network = networks.get(as_of) or NetworkContext(as_of, version=0)
        context = Context(network, read_address_context(connection, as_of, transactions))
        features = transaction_features(TransactionBatch.of(transactions), context)
        computed = WindowFeatures(window, transactions, features, context)
        with connection.transaction():
            _rewrite(connection, computed)
        yield computed


def read_features(connection: Connection, window: datetime) -> WindowFeatures:
    """The stored features of a window. Transactions that landed after they were computed are left out."""
    rows = connection.execute(
        sql.SQL(
            "SELECT txid, context_version, {} FROM transaction_features WHERE window_start = %s ORDER BY seen_at, txid"
        ).format(_COLUMNS),
        [window],
    ).fetchall()
    features = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), len(FEATURE_NAMES))
    known = {row[0] for row in rows}
    transactions = [tx for tx in read_transactions(connection, window, window + WINDOW) if tx.txid in known]
    version = rows[0][1] if rows else 0
    return WindowFeatures(window, transactions, features, Context(NetworkContext(context_window(window), version)))


def _rewrite(connection: Connection, window: WindowFeatures) -> None:
    connection.execute("DELETE FROM transaction_features WHERE window_start = %s", [window.window_start])
    with connection.cursor().copy(
        sql.SQL("COPY transaction_features (txid, seen_at, window_start, context_version, {}) FROM STDIN").format(
            _COLUMNS
        )
    ) as copy:
        version = window.context.network.version
        for tx, values in zip(window.transactions, window.features.tolist(), strict=True):
            copy.write_row((tx.txid, tx.seen_at, window.window_start, version, *values))


def read_recent_features(connection: Connection, since: datetime) -> NDArray[np.float64]:
    """The stored features of all transactions seen since a moment, of shape (n, len(FEATURE_NAMES)), by time."""
    rows = connection.execute(
        sql.SQL("SELECT {} FROM transaction_features WHERE seen_at >= %s ORDER BY seen_at, txid").format(_COLUMNS),
        [since],
    ).fetchall()
    return np.array(rows, np.float64).reshape(len(rows), len(FEATURE_NAMES))
