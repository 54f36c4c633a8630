"""A double spend is alerted once, after both sides were held apart for ten seconds; what only looks like it is not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import pytest
from msgspec import structs

from tests.builders import T0, coin, spending
from tests.databases import empty_tables
from txwatch.alerts.life import insert_chain_updates
from txwatch.alerts.store import read_sent_message
from txwatch.detection.rules import CurrentDetectors
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.live.lane import LiveScoring
from txwatch.sources.source import Event, Removed, Seen
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.sightings import FollowedSource
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
COIN = coin("ab" * 32, 3, value=2 * BTC)
ONE, TWO = "bitcoin-core", "bitcoin-core-2"


def spender(digit: str, fee: int = 1_000, second: float = 0, value: int = BTC) -> Transaction:
    pays = [(f"bc1qto{digit}", value), (COIN.addr or "", 2 * BTC - value - fee)]
    return spending(digit * 64, COIN, pays=pays, vsize=100, seen_at=T0 + timedelta(seconds=second))


FIRST, SECOND, THIRD = spender("1"), spender("2", 2_000, 1), spender("3", 3_000, 2)


@dataclass
class Worker:
    """A live lane that follows two nodes and blockchain.info; its second is `now`."""

    connection: Connection
    now: datetime = T0
    followed: tuple[str, ...] = (ONE, TWO, "blockchain.info")
    recent: RecentTxids = field(default_factory=RecentTxids)
    woken: int = 0

    def __post_init__(self) -> None:
        self.hook = LiveScoring(lambda: None, CurrentDetectors(500), ("1",), self.wake, clock=lambda: self.now)

    def wake(self) -> None:
        self.woken += 1

    def tell(self, *told: tuple[str, Event]) -> None:
        batch = Batch(self.now, self.now)
        for source, event in told:
            batch.add(event, source, self.recent)  # type: ignore[arg-type]
        batch.sources = [FollowedSource(name, T0, self.now, self.now, True, "", 1, 83) for name in self.followed]
        commit(self.connection, batch, epoch=None, now=self.now, hook=self.hook)

    def see(self, source: str, tx: Transaction) -> None:
        self.tell((source, Seen(structs.replace(tx, seen_at=self.now))))

    def remove(self, source: str, tx: Transaction, by: Transaction | None = None) -> None:
        self.tell((source, Removed(tx.txid, self.now, by and by.txid)))

    def wait(self, seconds: int) -> None:
        """Empty batches, one a second."""
        for _ in range(seconds):
            self.now += timedelta(seconds=1)
            self.tell()

    def alerts(self) -> list[tuple[str, list[str]]]:
        query = "SELECT alert_key, kinds FROM alerts WHERE kinds @> '{double_spend}' ORDER BY 1"
        return self.connection.execute(query).fetchall()

    def text(self) -> str:
        row = self.connection.execute("SELECT reasons -> 0 ->> 'text' FROM alerts").fetchone()
        return str(row and row[0])


TABLES = (
    "alerts, transactions, blocks, confirmations, sightings, spends, removals, contested_outpoints, feed_gaps,"
    " feed_sources"
)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, TABLES)
        yield connection


@pytest.fixture
def worker(connection: Connection) -> Worker:
    return Worker(connection)


DOUBLE = [(SECOND.txid, ["double_spend"])]


def test_both_sides_that_are_held_apart_are_alerted_once_after_ten_seconds(worker: Worker) -> None:
    worker.see(ONE, FIRST)
    worker.now += timedelta(seconds=5)
    worker.see(TWO, SECOND)
    worker.wait(9)
    assert worker.alerts() == []
    worker.wait(1)
    assert worker.alerts() == DOUBLE
    assert worker.text() == (
        "output 3 of abababab… is spent twice; held are 22222222… (2.00 BTC, 20.0 sat/vB) by bitcoin-core-2"
        " and 11111111… (2.00 BTC, 10.0 sat/vB) by bitcoin-core"
    )
    woken = worker.woken
    worker.wait(30)
    assert (worker.alerts(), worker.woken) == (DOUBLE, woken)
    assert worker.connection.execute("SELECT severity, late FROM alerts").fetchall() == [("critical", False)]


def apart(worker: Worker) -> None:
    worker.see(ONE, FIRST)
    worker.see(TWO, SECOND)


def test_it_is_alerted_once_over_restarts_and_by_several_workers(worker: Worker, database_url: str) -> None:
    apart(worker)
    worker.wait(3)
    after = Worker(worker.connection, now=T0 + timedelta(minutes=30))
    after.tell()
    assert after.alerts() == DOUBLE
    with connect(database_url) as other:
        beside = Worker(other, now=after.now + timedelta(seconds=2))
        beside.tell()
        after.wait(3)
    assert after.alerts() == DOUBLE
    assert worker.connection.execute("SELECT count(*) FROM alert_updates").fetchone() == (0,)


def test_two_workers_at_the_same_moment_alert_once(worker: Worker, database_url: str) -> None:
    apart(worker)
    worker.now += timedelta(seconds=20)
    with connect(database_url) as other, other.transaction():
        Worker(other, now=worker.now).hook.follow_up(other, Batch(worker.now, worker.now))
        worker.connection.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            worker.hook.follow_up(worker.connection, Batch(worker.now, worker.now))
    worker.tell()
    assert worker.alerts() == DOUBLE


def test_a_fee_bump_that_a_node_has_not_heard_of_yet_is_none(worker: Worker) -> None:
    worker.see(ONE, FIRST)
    worker.see(TWO, FIRST)
    worker.see(ONE, SECOND)
    worker.remove(ONE, FIRST, SECOND)
    worker.wait(60)
    assert worker.alerts() == []


def test_one_that_is_settled_within_ten_seconds_is_none(worker: Worker) -> None:
    apart(worker)
    worker.wait(9)
    worker.remove(ONE, FIRST, SECOND)
    worker.see(ONE, SECOND)
    worker.wait(60)
    assert worker.alerts() == []


def test_a_bump_of_what_a_node_never_saw_is_none(worker: Worker) -> None:
    worker.see(ONE, FIRST)
    worker.remove(ONE, FIRST, SECOND)
    worker.see(ONE, SECOND)
    worker.see(TWO, SECOND)
    worker.wait(60)
    assert worker.alerts() == []


def test_who_tells_of_no_removals_holds_nothing(worker: Worker) -> None:
    worker.see("blockchain.info", FIRST)
    worker.see(TWO, SECOND)
    worker.wait(60)
    assert worker.alerts() == []


def test_a_source_in_a_gap_or_that_is_not_followed_is_not_asked(worker: Worker) -> None:
    apart(worker)
    record_gaps(worker.connection, [FeedGap(T0, None, "away", source=ONE)])
    worker.wait(60)
    assert worker.alerts() == []
    worker.connection.execute("UPDATE feed_gaps SET state = 'ended', ended_at = now()")
    worker.followed = (TWO,)
    long_ago = worker.now - timedelta(minutes=5)
    worker.connection.execute("UPDATE feed_sources SET noted_at = %s WHERE source = %s", [long_ago, ONE])
    worker.wait(5)
    assert worker.alerts() == []
    worker.followed = (ONE, TWO)
    worker.wait(1)
    assert worker.alerts() == DOUBLE


def test_a_bumped_side_is_the_same_double_spend(worker: Worker) -> None:
    apart(worker)
    worker.wait(15)
    worker.see(TWO, THIRD)
    worker.remove(TWO, SECOND, THIRD)
    worker.wait(15)
    assert worker.alerts() == DOUBLE


def test_another_coin_is_another_double_spend_and_two_coins_of_one_pair_are_one(worker: Worker) -> None:
    more = [coin("cd" * 32, n, value=BTC) for n in range(2)]
    both = [spending(digit * 64, *more, pays=[("bc1qany", 2 * BTC - 1_000)]) for digit in "78"]
    apart(worker)
    worker.see(ONE, both[0])
    worker.see(TWO, both[1])
    worker.wait(15)
    assert [key[0] for key, _ in worker.alerts()] == ["2", "8"]


def test_a_transaction_with_an_alert_gets_it_as_an_update(worker: Worker) -> None:
    big = coin("ef" * 32, value=900 * BTC)
    whales = [spending(digit * 64, big, pays=[(f"bc1q{digit}", 900 * BTC - 1_000)]) for digit in "45"]
    worker.see(ONE, whales[0])
    worker.see(TWO, whales[1])
    worker.wait(20)
    assert worker.connection.execute("SELECT kinds FROM alerts").fetchall() == [(["whale"],)] * 2
    query = "SELECT left(alert_key, 1), update_key, left(text, 19) FROM alert_updates"
    assert worker.connection.execute(query).fetchall() == [("5", "kind:double_spend", "⚔ also double spend")]


def test_one_side_in_a_block_ends_it(worker: Worker) -> None:
    apart(worker)
    confirm(worker, FIRST)
    worker.wait(60)
    assert worker.alerts() == []


def confirm(worker: Worker, tx: Transaction) -> None:
    worker.connection.execute(
        "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count) VALUES ('f0', 840000, %s, %s, 1)",
        [worker.now, worker.now],
    )
    worker.connection.execute("INSERT INTO confirmations (txid, block_hash) VALUES (%s, 'f0')", [tx.txid])


@pytest.mark.parametrize(
    ("mined", "end"),
    [
        (SECOND, "✅ confirmed in block 840,000, less than a minute after it was seen"),
        (FIRST, "❌ 11111111… was confirmed in block 840,000 instead: it spends the same coin"),
    ],
)
def test_the_message_ends_with_the_one_that_was_confirmed(worker: Worker, mined: Transaction, end: str) -> None:
    apart(worker)
    worker.wait(10)
    confirm(worker, mined)
    worker.connection.execute("UPDATE alert_deliveries SET state = 'sent', message_id = 7, sent_at = now()")
    insert_chain_updates(worker.connection, worker.now)
    worker.remove(*(TWO, SECOND) if mined is FIRST else (ONE, FIRST))
    assert read_sent_message(worker.connection, "1", SECOND.txid).updates == [end]
