"""Days of a database with everything that can be in a row: unknown amounts, coins of a node, NaN, reasons."""

from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
from psycopg import sql

from tests.builders import coin, spending, transaction
from tests.databases import empty_tables
from txwatch.archive.datasets import ARCHIVED, Dataset
from txwatch.archive.days import day_span
from txwatch.clock import EPOCH, MICROSECOND, window_start
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.store import BinaryColumn, copy_rows, feature_columns
from txwatch.store.database import Connection
from txwatch.store.retention import ensure_days
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import UNCONFIRMED, CreatedOutput, SpentOutput, Transaction

DAY = date(2024, 3, 14)
NEXT = date(2024, 3, 15)
REASONS = '[{"kind": "whale", "a\\n": "ü, \\"b\\""}]'
MAX_SAT = 2_099_999_997_690_000


def fill_day(connection: Connection, day: date = DAY, rows: int = 40, seed: int = 1) -> list[Transaction]:
    """Write transactions of a day, their features and scores. The same seed writes the same."""
    random = Random(f"{day} {seed}")  # noqa: S311 - the same rows each time
    start, _ = day_span(day)
    moments = sorted(start + timedelta(seconds=random.uniform(0, 86_399)) for _ in range(rows))
    transactions = [_transaction(random, n, at) for n, at in enumerate(moments)]
    write(connection, transactions, random)
    return transactions


def write(connection: Connection, transactions: list[Transaction], random: Random) -> None:
    days = [tx.seen_at for tx in transactions]
    ensure_days(connection, "transaction_features", min(days), max(days) + timedelta(microseconds=1))
    with connection.transaction():
        land_transactions(connection, transactions)
        write_features(connection, transactions, random)
        connection.cursor().executemany(
            "INSERT INTO transaction_scores (txid, model_version, context_version, seen_at, lane, score, threshold,"
            " is_anomaly, reasons, pattern) VALUES (%s, %s, 1, %s, 'live', %s, 0.6, %s, %s, %s)",
            [
                (tx.txid, version, tx.seen_at, random.random(), n % 7 == 0, REASONS, n if n % 2 else None)
                for n, tx in enumerate(transactions)
                for version in ("1", "2")
            ],
        )  # fmt: skip


def write_features(connection: Connection, transactions: list[Transaction], random: Random) -> None:
    shape = (len(transactions), len(FEATURE_NAMES))
    drawn = [random.choice([random.random(), 1e15 / 3, 0.0, np.nan]) for _ in range(shape[0] * shape[1])]
    values = np.array(drawn).reshape(shape)
    us = np.array([(tx.seen_at - EPOCH) // MICROSECOND for tx in transactions])
    windows = np.array([(window_start(tx.seen_at) - EPOCH) // MICROSECOND for tx in transactions])
    copy_rows(
        connection,
        "transaction_features",
        [
            BinaryColumn.text("txid", [tx.txid for tx in transactions], width=64),
            BinaryColumn.times("seen_at", us),
            BinaryColumn.times("window_start", windows),
            BinaryColumn.integers("context_version", np.ones(len(transactions), np.int64)),
            *feature_columns(values),
        ],
    )


def _transaction(random: Random, n: int, at: datetime) -> Transaction:
    txid = f"{random.getrandbits(256):064x}"
    if n % 5 == 0:
        unknown = [SpentOutput(None, None, "other", 0), SpentOutput("bc1qown", MAX_SAT, "p2wpkh", 2**32 - 1)]
        unknown_sums = {"value_sat": MAX_SAT, "input_sat": None, "fee_sat": None, "input_count": 2}
        paid = [CreatedOutput(None, MAX_SAT, "op_return", 0)]
        return transaction(txid=txid, seen_at=at, inputs=unknown, outputs=paid, source="block", **unknown_sums)
    if n % 5 == 1:
        spent = coin(f"{n:064x}", value=random.randrange(2_000, 10**12), height=UNCONFIRMED, coinbase=n % 2 == 0)
        return spending(txid, spent, pays=[("bc1qpaid", 546), (f"bc1q{n}", 0)], seen_at=at, tip_height=834_000 + n,
                        feed_time=at.replace(microsecond=0))  # fmt: skip
    return transaction(txid=txid, seen_at=at, value_sat=random.randrange(10**9), rbf=n % 2 == 0, lock_time=2**32 - 1)


def stored(connection: Connection, dataset: Dataset, day: date) -> list[tuple[Any, ...]]:
    """The rows that the database holds of a day, with all their columns, as psycopg reads them."""
    columns = sql.SQL(", ").join(map(sql.Identifier, dataset.schema.names))
    order = sql.SQL(", ").join(map(sql.Identifier, ("seen_at", *dataset.key)))
    query = sql.SQL("SELECT {} FROM {} WHERE seen_at >= %s AND seen_at < %s ORDER BY {}")
    bound = query.format(columns, sql.Identifier(dataset.table), order)
    # Binary, for the text of a real is that of the shortest decimal, which as a double is another number.
    return connection.execute(bound, day_span(day), binary=True).fetchall()


def drop_all(connection: Connection) -> None:
    """Empty what the tests of a module share."""
    empty_tables(
        connection,
        f"{', '.join(dataset.table for dataset in ARCHIVED.values())}, archived_days, feed_gaps, late_windows,"
        " scored_windows, recent_scores, address_activity, address_windows, network_baseline",
    )
