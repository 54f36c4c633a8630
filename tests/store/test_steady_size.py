"""Rows that are deleted day by day leave no holes that grow: what a day leaves, the next ones take."""

from datetime import timedelta

import pytest

from tests.builders import T0, coin, spending
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.life import land_spends
from txwatch.store.retention import drop_expired
from txwatch.store.sightings import Sighting, land_sightings
from txwatch.store.transactions import land_transactions

TABLES = ("transactions", "transaction_scores", "sightings", "spends", "confirmations")
"""The largest of those that lose rows and not partitions."""
DAY_ROWS, KEPT_DAYS = 300, 14
DAY = timedelta(days=1)
SCORES = (
    "INSERT INTO transaction_scores (txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly,"
    " reasons) SELECT txid, '1', 1, seen_at, 'live', 0.5, 0.6, false, '[]' FROM transactions WHERE seen_at >= %s"
)


def live(connection: Connection, day: int) -> None:
    """Land what a day brings, in an order of txids that has nothing to do with time, and confirm it by one block."""
    start = T0.replace(hour=0) + day * DAY
    spenders = [
        spending(
            f"{(day * DAY_ROWS + n) * 0x9E3779B97F4A7C15 % 2**64:064x}",
            coin(f"{day * DAY_ROWS + n:064x}"),
            seen_at=start + n * timedelta(minutes=4),
            source="bulk",
        )
        for n in range(DAY_ROWS)
    ]
    block = f"{day:064x}"
    with connection.transaction():
        land_transactions(connection, spenders)
        land_sightings(connection, [Sighting(tx.txid, "a node", tx.seen_at) for tx in spenders])
        land_spends(connection, spenders)
        connection.execute(SCORES, [start])
        connection.execute(
            "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count) VALUES (%s, %s, %s, %s, %s)",
            [block, day, start, start, DAY_ROWS],
        )
        connection.execute(
            "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM transactions WHERE seen_at >= %s",
            [block, start],
        )
    for expired in drop_expired(connection, start - KEPT_DAYS * DAY, batch=100):
        if expired.table in TABLES and expired.rows:
            connection.execute(f"VACUUM {expired.table}")  # as autovacuum does, when it comes


@pytest.mark.parametrize("table", TABLES)
def test_a_night_s_deletions_make_autovacuum_come(database_url: str, table: str) -> None:
    with connect(database_url) as connection:
        stored = scalar(connection, "SELECT coalesce(reloptions, '{}') FROM pg_class WHERE relname = %s", [table])
        own = dict(option.split("=") for option in stored)
        scale, threshold = (
            float(own.get(name) or scalar(connection, f"SHOW {name}"))
            for name in ("autovacuum_vacuum_scale_factor", "autovacuum_vacuum_threshold")
        )
    a_day, kept_days = 475_000, Settings.model_fields["retention_days"].default
    assert a_day > threshold + scale * kept_days * a_day


def test_tables_stay_as_large_as_the_days_that_are_kept(database_url: str) -> None:
    sizes: list[dict[str, int]] = []
    with connect(database_url) as connection:
        connection.execute("SET synchronous_commit = off")
        for day in range(2 * KEPT_DAYS + 3):
            live(connection, day)
            rows = connection.execute(
                "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relname = ANY(%s)", [list(TABLES)]
            )
            sizes.append(dict(rows.fetchall()))
        assert scalar(connection, "SELECT count(*) FROM transactions") == (KEPT_DAYS + 1) * DAY_ROWS
    for table in TABLES:
        # Since the first days were deleted, and their indexes have split as far as they will.
        assert sizes[-1][table] < 1.05 * sizes[KEPT_DAYS + 3][table], (table, [size[table] for size in sizes])
