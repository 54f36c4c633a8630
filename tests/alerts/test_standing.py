"""How an amount stands among what was seen before: what a message says is true of the transactions that are stored."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from txwatch.alerts.alert import Alert
from txwatch.alerts.standing import LOOKED_BACK, Standing, read_standing
from txwatch.alerts.store import insert_alerts
from txwatch.clock import WINDOW, window_start
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.features.network import publish_network_baseline
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
MINUTE = timedelta(minutes=1)
NOW = window_start(T0) + timedelta(minutes=2)
EARLIER = window_start(NOW) - 2 * WINDOW
"""Where the context of what is seen now ends; later rows are in no histogram."""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, transactions, network_baseline, whale_moves")
        yield connection


def seen(n: int, at: datetime, sat: int = BTC, fee_sat: int = 1_000) -> Transaction:
    return transaction(txid=f"{n:064x}", seen_at=at, value_sat=sat, fee_sat=fee_sat, input_sat=sat + fee_sat, vsize=100)


def land(connection: Connection, hours: float = 3, each: timedelta = timedelta(seconds=5)) -> None:
    """Ordinary transactions of so many hours before now, and their windows, published as far as the context goes."""
    first = window_start(NOW - timedelta(hours=hours))
    with connection.transaction():
        land_transactions(connection, [seen(n, first + n * each) for n in range(int((NOW - first) / each))])
        publish_network_baseline(connection, first, EARLIER + WINDOW)


def land_one(connection: Connection, n: int, at: datetime, sat: int = BTC, fee_sat: int = 1_000) -> None:
    with connection.transaction():
        land_transactions(connection, [seen(n, at, sat, fee_sat)])
        publish_network_baseline(connection, window_start(at), window_start(at) + WINDOW)


def standing(connection: Connection, tx: Transaction, *reasons: Reason, kind: str = "forest") -> str | None:
    alert = Alert(tx.txid, [kind], Severity.medium, list(reasons), False, tx.seen_at, tx.seen_at, "1")
    return read_standing(connection, alert, tx)


def test_the_largest_of_all_is_called_so(connection: Connection) -> None:
    land(connection)
    assert standing(connection, seen(90_001, NOW, 40 * BTC)) == "total output above anything in 3 hours"
    assert standing(connection, seen(90_001, NOW, BTC, 90_000)) == "fee rate above anything in 3 hours"


def test_what_is_as_large_is_counted_in_windows_and_after_them(connection: Connection) -> None:
    land(connection)
    land_one(connection, 80_001, NOW - timedelta(hours=1), 41 * BTC)
    said = standing(connection, seen(90_001, NOW, 40 * BTC))
    assert said is not None
    assert said.startswith("total output that at most one of 2,")
    with connection.transaction():
        land_transactions(connection, [seen(80_002, NOW - MINUTE, 40 * BTC)])
    said = standing(connection, seen(90_001, NOW, 40 * BTC))
    assert said is not None
    assert "at most 2 of 2," in said, "it came after the windows that are counted"


def test_what_is_seen_later_changes_nothing(connection: Connection) -> None:
    land(connection)
    with connection.transaction():
        land_transactions(connection, [seen(80_001, NOW + MINUTE, 99 * BTC)])
    assert standing(connection, seen(90_001, NOW, 40 * BTC)) == "total output above anything in 3 hours"


@pytest.mark.parametrize(("sat", "fee_sat"), [(BTC, 1_000), (BTC // 2, 900)])
def test_nothing_is_said_of_what_is_ordinary(connection: Connection, sat: int, fee_sat: int) -> None:
    land(connection)
    assert standing(connection, seen(90_001, NOW, sat, fee_sat)) is None


def test_nothing_is_said_in_the_first_hour_and_without_history(connection: Connection) -> None:
    assert standing(connection, seen(90_001, NOW, 40 * BTC)) is None
    land(connection, hours=0.75)
    assert standing(connection, seen(90_001, NOW, 40 * BTC)) is None


def test_a_message_does_not_wait_for_it(connection: Connection, database_url: str) -> None:
    land(connection)
    with connect(database_url) as other, other.transaction():
        other.execute("LOCK TABLE network_baseline IN ACCESS EXCLUSIVE MODE")
        assert standing(connection, seen(90_001, NOW, 40 * BTC)) is None
    assert standing(connection, seen(90_001, NOW, 40 * BTC)) == "total output above anything in 3 hours"


def test_the_amount_of_a_fee_accident_is_no_matter(connection: Connection) -> None:
    land(connection)
    tx = seen(90_001, NOW, 40 * BTC, 1_000)
    assert standing(connection, tx, kind="fee_accident") is None
    assert standing(connection, seen(90_001, NOW, BTC, 9_000_000), kind="fee_accident") == (
        "fee rate above anything in 3 hours"
    )


def whale(n: int, sat: int, at: datetime) -> tuple[Transaction, Reason]:
    return seen(n, at, sat), Reason("whale", "moved", "moved_sat", float(sat))


def record(connection: Connection, n: int, sat: int, at: datetime, flow: str = "unknown") -> None:
    connection.execute(
        "INSERT INTO whale_moves (txid, seen_at, moved_sat, flow, senders, receivers, sources)"
        " VALUES (%s, %s, %s, %s, '{}', '{}', '{}')",
        [f"{n:064x}", at, sat, flow],
    )


def test_whales_have_an_exact_order(connection: Connection) -> None:
    land(connection)
    tx, reason = whale(90_001, 600 * BTC, NOW)
    assert standing(connection, tx, reason, kind="whale") == "the first whale in 3 hours"
    for n in range(3):
        record(connection, n, 500 * BTC, NOW - timedelta(minutes=30 + n))
    record(connection, 10, 900 * BTC, NOW - timedelta(hours=1), "internal_move")
    assert standing(connection, tx, reason, kind="whale") == "larger than any whale in 3 hours"
    record(connection, 11, 601 * BTC, NOW - timedelta(hours=1))
    assert standing(connection, tx, reason, kind="whale") == "2nd largest of 5 whales in 3 hours"
    for n in range(20, 24):
        record(connection, n, 700 * BTC, NOW - timedelta(hours=1))
    assert standing(connection, tx, reason, kind="whale") == "one of 9 whales in 3 hours"


def test_a_whale_that_was_alerted_a_moment_ago_counts(connection: Connection) -> None:
    land(connection)
    earlier, its_reason = whale(80_001, 700 * BTC, NOW - MINUTE)
    with connection.transaction():
        insert_alerts(
            connection,
            [Alert(earlier.txid, ["whale"], Severity.high, [its_reason], False, earlier.seen_at, NOW, "1")],
            [],
        )
    tx, reason = whale(90_001, 600 * BTC, NOW)
    assert standing(connection, tx, reason, kind="whale") == "2nd largest of 2 whales in 3 hours"
    record(connection, 80_001, 700 * BTC, NOW - MINUTE)
    assert standing(connection, tx, reason, kind="whale") == "2nd largest of 2 whales in 3 hours", "it is one whale"


def test_a_span_is_never_longer_than_what_was_seen() -> None:
    said = [Standing("fee rate", 0, 10, T0).words(T0 + timedelta(hours=hours)) for hours in (1.9, 47.9, 48, 71)]
    assert [text.rpartition(" in ")[2] for text in said] == ["an hour", "47 hours", "2 days", "2 days"]
    assert Standing("fee rate", 0, 10, T0).words(T0 + LOOKED_BACK).endswith("7 days")
