"""Retention drops whole days from every table that grows, and nothing of what was sent or is recent."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql

from tests.builders import coin, spending, transaction
from tests.databases import empty_tables
from tests.features.window_lane import materialize
from tests.waiting import wait_until
from txwatch.clock import EPOCH
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.life import Removal, land_spends, record_removals
from txwatch.store.prices import insert_price
from txwatch.store.retention import (
    ATTEMPTS,
    BY_DAY,
    BY_ROW,
    CONFIRMING_DAYS,
    OF_BLOCKS,
    PAUSE_SECONDS,
    WHILE_UNCONFIRMED,
    Expired,
    confirmed_now,
    drop_days,
    drop_expired,
    ensure_days,
    expiry,
    partition_name,
)
from txwatch.store.sightings import Sighting, land_sightings
from txwatch.store.transactions import QuarantinedMessage, land_transactions, quarantine
from txwatch.wire.prices import Price

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


def test_the_clock_counts_as_far_as_transactions_confirm_it(database_url: str) -> None:
    day, midnight = timedelta(days=1), NOW.replace(hour=0, minute=0)
    with connect(database_url) as connection:
        empty_tables(connection, "transactions")
        for n in range(1, CONFIRMING_DAYS):
            assert confirmed_now(connection, NOW, 90) == EPOCH, "nothing goes before there is a week"
            land(connection, n, NOW - n * day)
            assert confirmed_now(connection, NOW, 1) == midnight, "yesterday is over"
        land(connection, 99, midnight)
        assert confirmed_now(connection, NOW, 90) == confirmed_now(connection, NOW, 1) == NOW
        later = NOW + 365 * day
        assert confirmed_now(connection, later, 90) == midnight + day, "the feed was away, or the clock is wrong"
        land(connection, 100, later - timedelta(minutes=1))
        assert confirmed_now(connection, later, 90) == midnight + 2 * day, "as if one more day had gone by"
        assert confirmed_now(connection, NOW, 90) == NOW, "the clock was set right"
        empty_tables(connection, "transactions")


def land(connection: Connection, number: int, seen_at: datetime) -> None:
    with connection.transaction():
        land_transactions(connection, [transaction(txid=f"{number:064x}", seen_at=seen_at, source="bulk")])


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
            insert_price(connection, Price(68_000, moment, "blockchain.info"), moment)
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
            connection.execute("INSERT INTO block_completeness VALUES (%s, 'a node', 7, 7, 0, 0)", [f"{day:064x}"])
            with connection.transaction():
                spenders = [
                    spending(f"{day * 100 + n:064x}", coin("ab" * 32, day), seen_at=moment, source="bulk")
                    for n in range(8, 10)
                ]
                land_spends(connection, spenders)
                land_sightings(connection, [Sighting(tx.txid, "a node", moment) for tx in spenders])
                record_removals(connection, [Removal(spenders[0].txid, "a node", moment, spenders[1].txid)])
        connection.execute("INSERT INTO recent_scores SELECT '1', unnest(%s::timestamptz[]), 7, '{}'", [[OLD, RECENT]])
        materialize(connection, MIDNIGHT - timedelta(minutes=5), MIDNIGHT + timedelta(minutes=5))
        connection.execute("ANALYZE transaction_features, address_activity")
        tables = [*BY_DAY, *BY_ROW, *WHILE_UNCONFIRMED, *OF_BLOCKS]
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


def test_a_day_that_another_process_makes_meanwhile_is_no_error(database_url: str) -> None:
    day = datetime(2021, 1, 1, tzinfo=UTC)
    span = "address_activity", day, day + timedelta(days=1)
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    with connect(database_url) as first, connect(database_url) as second, connect(database_url) as watching:
        with ThreadPoolExecutor(1) as beside:
            with first.transaction():
                ensure_days(first, *span)
                begun = beside.submit(ensure_days, second, *span)
                wait_until(lambda: scalar(watching, waiting), "the other has seen no such day, and waits")
            begun.result()
        assert scalar(second, "SELECT to_regclass(%s) IS NOT NULL", [partition_name("address_activity", day)])


def test_a_backup_that_reads_an_old_day_is_not_disturbed_and_holds_nobody_up(database_url: str) -> None:
    table = "address_activity"
    days = [datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2)]
    waits: list[float] = []

    def read_meanwhile(seconds: float) -> None:
        waits.append(seconds)
        with connect(database_url) as reader:
            reader.execute("SET lock_timeout = '1ms'")
            reader.execute("SELECT FROM address_activity WHERE address = 'any'")

    with connect(database_url) as connection, connect(database_url) as backup:
        ensure_days(connection, table, days[0], days[-1] + timedelta(days=1))
        names = [partition_name(table, day) for day in days]
        with backup.transaction():
            backup.execute("SELECT FROM address_activity")
            left = drop_days(connection, table, days[-1] + timedelta(days=1), read_meanwhile)
        assert [(day.name, day.dropped) for day in left] == [(name, False) for name in names]
        assert waits == [PAUSE_SECONDS] * (ATTEMPTS - 1), "the days behind it are not waited for as well"

        def end_the_backup(_: float) -> None:
            backup.execute("COMMIT")

        backup.execute("BEGIN; SELECT FROM address_activity")
        dropped = drop_days(connection, table, days[-1] + timedelta(days=1), end_the_backup)
        assert [(day.name, day.dropped) for day in dropped] == [(name, True) for name in names]


def test_a_day_in_use_is_reported_and_goes_the_next_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.store.retention.ATTEMPTS", 1)
    day = datetime(2020, 1, 1, tzinfo=UTC)
    with connect(database_url) as connection, connect(database_url) as backup:
        ensure_days(connection, "address_activity", day, day + timedelta(days=1))
        with backup.transaction():
            backup.execute("SELECT FROM address_activity")
            expired = {one.table: one for one in drop_expired(connection, MIDNIGHT, wait=lambda _: None)}
        left = expired["address_activity"]
        assert left.days == 0
        assert left.in_use > 0
        assert expired["transaction_features"].in_use == 0
        again = next(one for one in drop_expired(connection, MIDNIGHT) if one.table == "address_activity")
        assert (again.days, again.in_use) == (left.in_use, 0)


def test_what_a_rule_matched_goes_unless_it_alerted(database_url: str) -> None:
    with connect(database_url) as connection:
        empty_tables(connection, "rule_matches")
        for moment in OLD, RECENT:
            connection.execute(
                "INSERT INTO rule_matches (txid, rule, version, seen_at, severity, outcome, reason)"
                " SELECT %(at)s || outcome, 'mine', 1, %(at)s, 'low', outcome, '{}'"
                " FROM unnest(ARRAY['alert', 'test', 'held']) AS outcome",
                {"at": moment},
            )
        [dropped] = [one.rows for one in drop_expired(connection, MIDNIGHT, batch=1) if one.table == "rule_matches"]
        left = connection.execute("SELECT seen_at, outcome FROM rule_matches ORDER BY seen_at, outcome").fetchall()
    assert dropped == 2
    assert left == [(OLD, "alert"), (RECENT, "alert"), (RECENT, "held"), (RECENT, "test")]


def test_what_matters_while_unconfirmed_goes_earlier(database_url: str) -> None:
    with connect(database_url) as connection:
        for table in (*BY_ROW, *WHILE_UNCONFIRMED):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        with connection.transaction():
            spenders = [spending(f"{n:064x}", coin("ab" * 32), seen_at=OLD) for n in range(2)]
            land_transactions(connection, spenders)
            land_spends(connection, spenders)
        dropped = {
            one.table: one.rows for one in drop_expired(connection, OLD, mempool_before=MIDNIGHT, batch=1) if one.rows
        }
        assert dropped == {"spends": 2, "contested_outpoints": 1}
