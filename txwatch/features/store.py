"""`transaction_features` in Postgres: computed and written whole a window at a time, by binary COPY, and read back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from txwatch.clock import EPOCH, MICROSECOND, WINDOW, context_window, window_range
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch, WindowFeatures, read_batch
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES, FEATURES
from txwatch.features.network import read_network_context, read_network_contexts
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection, commit_without_waiting
from txwatch.store.locks import Lock, wait_for
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


def count_without_features(connection: Connection, start: datetime, end: datetime) -> int:
    """Transactions seen in [start, end) that have no features, in windows that are not to be reported again anyway.

    What is recovered into a window notes that in the same database transaction, and the window is computed again.
    """
    row = connection.execute(
        "SELECT count(*) FROM transactions t WHERE seen_at >= %(start)s AND seen_at < %(end)s"
        " AND NOT EXISTS (SELECT FROM transaction_features f WHERE f.seen_at = t.seen_at AND f.txid = t.txid)"
        " AND NOT EXISTS"
        " (SELECT FROM late_windows l WHERE l.window_start = date_bin(%(window)s, t.seen_at, %(start)s))",
        {"start": start, "end": end, "window": WINDOW},
    ).fetchone()
    return 0 if row is None else int(row[0])


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
    rows = connection.execute(query.format(_COLUMNS), [list(seen_at), list(seen_at.values())], binary=True)
    return {row[0]: np.array(row[1:], np.float64) for row in rows}


def _rewrite(connection: Connection, window: ComputedWindow) -> None:
    start, batch = window.window_start, window.batch
    wait_for(connection, Lock.FEATURES, of=start.isoformat())
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
            *feature_columns(window.features),
        ],
    )


_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, PostgreSQL's zero, in microseconds since 1970."""


@dataclass(frozen=True)
class BinaryColumn:
    """One column without NULLs, of values of one width; `dtype` is the form in which they are sent."""

    name: str
    values: NDArray[Any]
    dtype: str

    @classmethod
    def text(cls, name: str, values: Sequence[str], width: int) -> "BinaryColumn":
        """Texts of exactly `width` ASCII characters. Raises ValueError for any other."""
        if any(len(value) != width for value in values):
            raise ValueError(f"a {name} is not {width} characters long")
        return cls(name, np.array(values, f"S{width}"), f"S{width}")

    @classmethod
    def times(cls, name: str, us: NDArray[np.int64]) -> "BinaryColumn":
        """timestamptz, from microseconds since 1970 UTC."""
        return cls(name, us - _POSTGRES_EPOCH_US, ">i8")

    @classmethod
    def integers(cls, name: str, values: NDArray[np.int64]) -> "BinaryColumn":
        """BIGINT."""
        return cls(name, values, ">i8")

    @classmethod
    def floats(cls, name: str, values: NDArray[np.float64]) -> "BinaryColumn":
        """double precision; NaN stays NaN."""
        return cls(name, values, ">f8")

    @classmethod
    def reals(cls, name: str, values: NDArray[np.float64]) -> "BinaryColumn":
        """real; NaN stays NaN, and every other value becomes the nearest of them."""
        return cls(name, values, ">f4")


def feature_columns(features: NDArray[np.float64]) -> list[BinaryColumn]:
    """The features of shape (n, len(FEATURES)) as columns of `transaction_features`."""
    make = {"float32": BinaryColumn.reals, "float64": BinaryColumn.floats}
    return [make[feature.type](feature.name, features[:, i]) for i, feature in enumerate(FEATURES)]


def copy_rows(connection: Connection, table: str, columns: Sequence[BinaryColumn]) -> None:
    """Append rows to a table, in the caller's transaction. All columns have the same length.

    The format is in PostgreSQL's manual, "COPY, Binary Format": a header; for each row the number of its fields, and
    for each field its length and its bytes, big-endian; and a trailer.
    """
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for i, column in enumerate(columns):
        fields += [(f"length_{i}", ">i4"), (f"value_{i}", column.dtype)]
    rows = np.empty(len(columns[0].values), np.dtype(fields))
    rows["fields"] = len(columns)
    for i, column in enumerate(columns):
        rows[f"length_{i}"] = rows.dtype[f"value_{i}"].itemsize
        rows[f"value_{i}"] = column.values
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table), names)
    with connection.cursor().copy(statement) as copy:
        copy.write(_HEADER)
        copy.write(rows.tobytes())
        copy.write(_TRAILER)
