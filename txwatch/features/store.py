"""`transaction_features` in Postgres: computed a window at a time, rewritten whole, read back in the same order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from txwatch.clock import WINDOW, context_window, window_range
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import EPOCH, MICROSECOND, TransactionBatch, WindowFeatures, read_batch
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import read_network_context, read_network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import BinaryColumn, Connection, commit_without_waiting, copy_rows
from txwatch.store.retention import ensure_days
from txwatch.store.transactions import read_transactions

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))


@dataclass(frozen=True)
class ComputedWindow:
    """One window's features as they were written, of shape (len(batch), len(FEATURE_NAMES)), and their context."""

    window_start: datetime
    batch: TransactionBatch
    features: NDArray[np.float64]
    context: Context


def write_features(connection: Connection, start: datetime, end: datetime) -> Iterator[ComputedWindow]:
    """Compute and rewrite the features of each window in [start, end), one database transaction each."""
    windows = window_range(start, end)
    ensure_days(connection, "transaction_features", start, end)
    networks = read_network_contexts(connection, [context_window(w) for w in windows])
    for window in windows:
        batch = read_batch(connection, window, window + WINDOW)
        network = networks[context_window(window)]
        context = Context(network, read_address_context(connection, network, batch.input_addresses()))
        computed = ComputedWindow(window, batch, transaction_features(batch, context), context)
        with connection.transaction():
            if window != windows[-1]:
                commit_without_waiting(connection)
            _rewrite(connection, computed)
        yield computed


def read_features(connection: Connection, window: datetime) -> WindowFeatures:
    """The stored features of a window, and the network's context that they were computed with.

    Transactions that landed after they were computed are left out.
    """
    query = sql.SQL(
        "SELECT txid, context_version, {} FROM transaction_features WHERE seen_at >= %s AND seen_at < %s"
        " ORDER BY seen_at, txid"
    )
    rows = connection.execute(query.format(_COLUMNS), [window, window + WINDOW], binary=True).fetchall()
    features = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), len(FEATURE_NAMES))
    known = {row[0] for row in rows}
    transactions = [tx for tx in read_transactions(connection, window, window + WINDOW) if tx.txid in known]
    network = read_network_context(connection, context_window(window), rows[0][1] if rows else 0)
    return WindowFeatures(window, transactions, TransactionBatch.of(transactions), features, Context(network))


def read_recent_features(connection: Connection, since: datetime) -> NDArray[np.float64]:
    """The stored features of all transactions seen since a moment, of shape (n, len(FEATURE_NAMES)), by time."""
    query = sql.SQL("SELECT {} FROM transaction_features WHERE seen_at >= %s ORDER BY seen_at, txid").format(_COLUMNS)
    rows = connection.execute(query, [since], binary=True).fetchall()
    return np.array(rows, np.float64).reshape(len(rows), len(FEATURE_NAMES))


def read_named_features(connection: Connection, seen_at: Mapping[str, datetime]) -> dict[str, NDArray[np.float64]]:
    """The stored features, of shape (len(FEATURE_NAMES),), of those of these transactions that have some, by txid."""
    query = sql.SQL(
        "SELECT txid, {} FROM transaction_features"
        " JOIN unnest(%s::text[], %s::timestamptz[]) AS wanted (txid, seen_at) USING (seen_at, txid)"
    )
    rows = connection.execute(query.format(_COLUMNS), [list(seen_at), list(seen_at.values())])
    return {row[0]: np.array(row[1:], np.float64) for row in rows}


def _rewrite(connection: Connection, window: ComputedWindow) -> None:
    start, batch = window.window_start, window.batch
    connection.execute("DELETE FROM transaction_features WHERE seen_at >= %s AND seen_at < %s", [start, start + WINDOW])
    n = len(batch)
    copy_rows(
        connection,
        "transaction_features",
        [
            BinaryColumn.text("txid", batch.txids, width=64),
            BinaryColumn.times("seen_at", batch.seen_us),
            BinaryColumn.times("window_start", np.full(n, (start - EPOCH) // MICROSECOND)),
            BinaryColumn.integers("context_version", np.full(n, window.context.network.version)),
            *(BinaryColumn.floats(name, window.features[:, i]) for i, name in enumerate(FEATURE_NAMES)),
        ],
    )
