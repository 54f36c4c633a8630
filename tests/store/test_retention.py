"""Retention drops whole days from every table that grows, and nothing of what was sent or is recent."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql

from tests.builders import transaction
from tests.features.window_lane import materialize
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.landing import QuarantinedMessage, land_transactions, quarantine
from txwatch.store.retention import BY_DAY, BY_ROW, Expired, drop_expired, expiry

NOW = datetime(2024, 3, 14, 3, 40, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 12, tzinfo=UTC)
OLD, RECENT = MIDNIGHT - timedelta(minutes=2), MIDNIGHT + timedelta(minutes=2)


def count(connection: Connection, table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("now", "days", "before"),
    [(NOW, 2, MIDNIGHT), (MIDNIGHT, 1, MIDNIGHT - timedelta(days=1)), (NOW, 90, datetime(2023, 12, 15, tzinfo=UTC))],
)
def test_whole_days_are_kept(now: datetime, days: int, before: datetime) -> None:
    assert expiry(now, days) == before


def test_what_is_old_goes_and_what_is_recent_stays(database_url: str) -> None:
    with connect(database_url) as connection:
        for day, moment in enumerate([OLD, RECENT]):
            with connection.transaction():
                land_transactions(
                    connection,
                    [transaction(txid=f"{day * 100 + n:064x}", seen_at=moment, source="bulk") for n in range(1, 8)],
                )
            quarantine(connection, [QuarantinedMessage(moment, "not JSON", b"{")])
            record_gaps(connection, [FeedGap(moment - timedelta(seconds=9), moment, "connection closed")])
            connection.execute(
                "INSERT INTO transaction_scores (txid, model_version, context_version, seen_at, lane, score, threshold,"
                " is_anomaly, reasons) SELECT txid, '1', 1, seen_at, 'live', 0.5, 0.6, false, '[]' FROM transactions"
                " ON CONFLICT DO NOTHING"
            )
            connection.execute(
                "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count)"
                " VALUES (%(hash)s, 1, %(at)s, %(at)s, 7)",
                {"hash": f"{day:064x}", "at": moment},
            )
            connection.execute(
                "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM transactions WHERE seen_at = %s",
                [f"{day:064x}", moment],
            )
        connection.execute("INSERT INTO recent_scores SELECT '1', unnest(%s::timestamptz[]), 7, '{}'", [[OLD, RECENT]])
        materialize(connection, MIDNIGHT - timedelta(minutes=5), MIDNIGHT + timedelta(minutes=5))
        connection.execute("ANALYZE transaction_features, address_activity")
        tables = [*BY_DAY, *BY_ROW, "confirmations"]
        before = {table: count(connection, table) for table in tables}

        dropped = {expired.table: expired for expired in drop_expired(connection, MIDNIGHT, batch=3)}
        assert dropped["transactions"] == Expired("transactions", 7, 0, dropped["transactions"].seconds)
        assert dropped["transaction_features"].days == dropped["address_activity"].days == 1
        assert {table: count(connection, table) for table in tables} == {
            table: rows // 2 for table, rows in before.items()
        }
        assert {table: dropped[table].rows for table in tables} == {table: n - n // 2 for table, n in before.items()}
        oldest = connection.execute("SELECT min(seen_at) FROM transaction_features").fetchone()
        assert oldest == (RECENT,)
        assert all(expired.rows == expired.days == 0 for expired in drop_expired(connection, MIDNIGHT))

        materialize(connection, MIDNIGHT - timedelta(minutes=5), MIDNIGHT)  # a day that was dropped can come back
