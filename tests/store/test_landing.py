"""Landing is idempotent, and what is read back is what was landed."""

from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from txwatch.store.database import connect
from txwatch.store.lease import (
    STALE_AFTER,
    LeaseLostError,
    count_messages,
    read_lease,
    release_lease,
    renew_lease,
    take_lease,
)
from txwatch.store.transactions import (
    MAX_QUARANTINED_BYTES,
    MAX_REASON,
    QuarantinedMessage,
    land_blocks,
    land_transactions,
    quarantine,
    read_transactions,
)
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import SpentOutput, Transaction


def numbered(n: int, **changes: object) -> Transaction:
    """Distinct transactions in the order of their numbers."""
    return transaction(**{"txid": f"{n:064x}", "seen_at": T0 + timedelta(microseconds=n)} | changes)


def test_a_transaction_comes_back_as_it_was_landed(database_url: str) -> None:
    hostile = numbered(1, inputs=[SpentOutput('"\\\t\n\\N \u2028 \U0001f40b', None, "other", 0)], fee_sat=None)
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert land_transactions(connection, [hostile, numbered(2)]) == [hostile.txid, numbered(2).txid]
        assert read_transactions(connection, T0, T0 + timedelta(seconds=1)) == [hostile, numbered(2)]


def test_an_address_with_a_nul_byte_costs_only_that_character(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        land_transactions(connection, [numbered(1, inputs=[SpentOutput("a\0b", 1, "other", 0)]), numbered(2)])
        landed = read_transactions(connection, T0, T0 + timedelta(seconds=1))
        assert [tx.inputs[0].addr for tx in landed] == ["a\ufffdb", "bc1qspent"]


def test_landing_twice_keeps_the_first(database_url: str) -> None:
    later = numbered(1, seen_at=T0 + timedelta(hours=1), source="block")
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert land_transactions(connection, [numbered(1), numbered(1)]) == [numbered(1).txid]
        assert land_transactions(connection, [later, numbered(2)]) == [numbered(2).txid]
        assert read_transactions(connection, T0, T0 + timedelta(hours=2)) == [numbered(1), numbered(2)]


def test_the_quarantine_keeps_the_reason_and_a_bounded_body(database_url: str) -> None:
    body = b"\x00\xff" * MAX_QUARANTINED_BYTES
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        quarantine(connection, [QuarantinedMessage(T0, "not JSON", body)])
        row = connection.execute("SELECT reason, size, body FROM quarantined_messages").fetchone()
    assert row == ("not JSON", len(body), body[:MAX_QUARANTINED_BYTES])


def test_the_highest_epoch_holds_the_lease(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        assert read_lease(connection) is None
        first = take_lease(connection, "first", T0, None)
        renew_lease(connection, first, T0, T0)
        count_messages(connection, received=3, duplicates=1, ignored=0)
        second = take_lease(connection, "second", T0, T0 + timedelta(hours=1))
        assert second == first + 1
        with pytest.raises(LeaseLostError):
            renew_lease(connection, first, T0, T0)
        release_lease(connection, first, T0)
        renew_lease(connection, second, T0 + timedelta(seconds=1), T0 - timedelta(seconds=9))
        count_messages(connection, received=4, duplicates=0, ignored=0)
        lease = read_lease(connection)
    assert lease is not None
    assert (lease.holder, lease.released_at, lease.received) == ("second", None, 7)
    assert lease.committed_through == T0, "a watermark never goes back"
    assert not lease.is_stale(T0 + STALE_AFTER)
    assert lease.is_stale(T0 + STALE_AFTER + timedelta(seconds=2))
    assert lease.is_stale(T0 - timedelta(hours=1)), "a heartbeat in the future is from before the clock was set back"


def test_what_a_worker_said_whose_clock_was_ahead_is_taken_back_by_the_next(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        first = take_lease(connection, "an hour ahead", T0, None)
        renew_lease(connection, first, T0, T0 + timedelta(hours=1))
        before = read_lease(connection)
        assert before is not None
        assert before.watermark == T0, "it has heard nothing that was sent since"
        take_lease(connection, "on time", T0 + timedelta(seconds=9), None)
        after = read_lease(connection)
    assert after is not None
    assert after.committed_through == T0


def test_the_quarantine_keeps_the_newest_messages_within_its_bounds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.store.transactions.QUARANTINE_MESSAGES", 5)
    monkeypatch.setattr("txwatch.store.transactions.QUARANTINE_BYTES", 300_000)

    def kept(bodies: list[bytes], reason: str = "odd") -> list[int]:
        with connect(database_url) as connection, connection.transaction(force_rollback=True):
            for n, body in enumerate(bodies):
                quarantine(connection, [QuarantinedMessage(T0 + timedelta(seconds=n), reason, body)])
            rows = connection.execute("SELECT received_at, reason FROM quarantined_messages ORDER BY id").fetchall()
        assert all(len(text) <= MAX_REASON for _, text in rows)
        return [(at - T0).seconds for at, _ in rows]

    assert kept([b"x"] * 9) == [4, 5, 6, 7, 8]
    assert kept([b"x" * MAX_QUARANTINED_BYTES] * 9) == [5, 6, 7, 8]
    assert kept([b"x" * 10 * MAX_QUARANTINED_BYTES], "why " * 10_000) == [0]


def test_a_block_that_was_found_without_an_announcement_is_announced_later(database_url: str) -> None:
    later = T0 + timedelta(minutes=9)
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO blocks (hash, height, block_time, seen_at, announced, tx_count)"
            " VALUES (repeat('a', 64), 7, %(at)s, %(at)s, false, 1)",
            {"at": T0},
        )
        for at in (later, later + timedelta(minutes=1)):
            land_blocks(connection, [WireBlock("a" * 64, 9, 1), WireBlock("b" * 64, 10, 1)], at)
        rows = connection.execute("SELECT height, seen_at, announced FROM blocks ORDER BY height").fetchall()
    assert rows == [(7, later, True), (10, later, True)]
