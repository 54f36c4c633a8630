"""What became of an alerted transaction is written into its message, within the batch that tells it, and never
contradicts itself.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from msgspec import structs

from tests.builders import T0, coin, spending, transaction
from tests.databases import empty_tables
from txwatch.alerts.life import insert_chain_updates
from txwatch.alerts.store import read_sent_message
from txwatch.detection.rules import CurrentDetectors
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.live.lane import LiveScoring
from txwatch.sources.source import BlockFound, BlockRemoved, Removed, Seen
from txwatch.store.database import Connection, connect
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import SpentOutput, Transaction

BTC = 100_000_000
COIN = coin("ab" * 32, value=700 * BTC)
SHOP, CHANGE = "bc1qshop", COIN.addr or ""
WHALE = spending("a" * 64, COIN, pays=[(SHOP, 600 * BTC), (CHANGE, 100 * BTC - 90_000)])
SOON = T0 + timedelta(seconds=9)
BUMP = spending("b" * 64, COIN, pays=[(SHOP, 600 * BTC), (CHANGE, 100 * BTC - 120_000)], seen_at=SOON)
OTHER = spending("c" * 64, COIN, pays=[("bc1qother", 600 * BTC), (CHANGE, 99 * BTC)], seen_at=SOON)
NODE, SECOND = "bitcoin-core", "bitcoin-core-2"
Told = Seen | Removed | BlockFound | BlockRemoved


class Lane:
    """What the live lane does with what sources tell; `woken` counts how often the delivery was."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = T0
        self.woken = 0
        self.recent = RecentTxids()
        detectors = CurrentDetectors(500)
        self.hook = LiveScoring(lambda: None, detectors, ("1",), self.wake, clock=lambda: self.now)

    def wake(self) -> None:
        self.woken += 1

    def tell(self, *events: Told, by: str = NODE, seconds: float = 1) -> None:
        batch = Batch(self.now, self.now + timedelta(seconds=seconds))
        self.now = batch.seen_through
        for event in events:
            batch.add(event, by, self.recent)
        commit(self.connection, batch, epoch=None, now=self.now, hook=self.hook)

    def remove(self, tx: Transaction, by: str | None = None, source: str = NODE) -> None:
        self.tell(Removed(tx.txid, self.now, by), by=source)

    def find(self, number: int) -> None:
        self.tell(BlockFound(WireBlock(hash=f"{number}", height=number, time=1_710_376_406, n_tx=1)))

    def mine(self, number: int, *txs: Transaction) -> None:
        """A block whose contents were read, as the recovery does."""
        self.find(number)
        for tx in txs:
            self.connection.execute("INSERT INTO confirmations VALUES (%s, %s)", [tx.txid, f"{number}"])
        insert_chain_updates(self.connection, self.now)

    def message(self, tx: Transaction = WHALE) -> list[str]:
        """What the message says below its title."""
        self.connection.execute(
            "UPDATE alert_deliveries SET state = 'sent', message_id = 7, sent_at = %s WHERE state = 'pending'", [T0]
        )
        said = self.connection.execute("SELECT FROM alert_updates WHERE alert_key = %s", [tx.txid]).fetchone()
        return read_sent_message(self.connection, "1", tx.txid).updates if said is not None else []


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        tables = "alerts, transactions, blocks, confirmations, sightings, spends, contested_outpoints, removals"
        empty_tables(connection, tables)
        yield connection


@pytest.fixture
def lane(connection: Connection) -> Lane:
    lane = Lane(connection)
    lane.tell(Seen(WHALE))
    assert lane.woken == 1
    return lane


CASES = {
    "by a higher fee": (BUMP, "❌ replaced by bbbbbbbb…, fee 0.0012 BTC (+30,000 sat), pays the same receivers"),
    "by one that pays others": (OTHER, "❌ replaced by cccccccc…, fee 1.00 BTC (+0.9991 BTC), pays others"),
}


@pytest.mark.parametrize(("by", "text"), CASES.values(), ids=CASES)
def test_a_replacement_is_told_with_the_batch_that_tells_it(lane: Lane, by: Transaction, text: str) -> None:
    lane.tell(Removed(WHALE.txid, lane.now, by.txid), Seen(by))
    assert lane.message() == [text]
    woken = lane.woken
    lane.tell(Removed(WHALE.txid, lane.now - timedelta(seconds=1), by.txid))
    lane.tell()
    assert (lane.message(), lane.woken) == ([text], woken), "it is said once"


def test_a_removal_that_comes_first_waits_for_what_took_its_place(lane: Lane) -> None:
    lane.remove(WHALE, BUMP.txid)
    assert lane.message() == []
    lane.tell(Seen(BUMP))
    assert len(lane.message()) == 1
    assert "fee 0.0012 BTC" in lane.message()[0]


def test_what_takes_its_place_and_never_lands_is_named_all_the_same(lane: Lane) -> None:
    lane.remove(WHALE, BUMP.txid)
    lane.now += timedelta(minutes=2)
    insert_chain_updates(lane.connection, lane.now)
    assert lane.message() == ["❌ replaced by bbbbbbbb…"]


def test_dropped_is_said_once_every_source_that_saw_it_dropped_it(lane: Lane) -> None:
    lane.tell(Seen(WHALE), by=SECOND)
    lane.remove(WHALE)
    assert lane.message() == []
    lane.remove(WHALE, source=SECOND)
    assert lane.message() == ["❌ left the mempool of bitcoin-core and bitcoin-core-2, nothing took its place"]
    lane.tell(Seen(WHALE), by="mempool.space")
    assert lane.message() == [], "it is held again"
    lane.remove(WHALE, source="mempool.space")
    assert [line.count(" and ") for line in lane.message()] == [2]


def test_what_comes_back_is_not_gone(lane: Lane) -> None:
    lane.remove(WHALE)
    lane.tell(Removed(BUMP.txid, lane.now), Seen(structs.replace(WHALE, seen_at=lane.now + timedelta(seconds=1))))
    assert lane.message() == []
    lane.remove(WHALE)
    assert [line[:6] for line in lane.message()] == ["❌ left"]


def test_dropped_and_replaced_are_not_said_of_one_transaction(lane: Lane) -> None:
    lane.tell(Seen(WHALE), by=SECOND)
    lane.remove(WHALE, source=SECOND)
    lane.tell(Removed(WHALE.txid, lane.now, BUMP.txid), Seen(BUMP))
    assert [line[:12] for line in lane.message()] == ["❌ replaced b"[:12]]


def test_dropped_then_replaced_elsewhere_says_only_the_latter(lane: Lane) -> None:
    lane.remove(WHALE)
    assert [line[:6] for line in lane.message()] == ["❌ left"]
    lane.tell(Seen(WHALE), by=SECOND)
    lane.tell(Removed(WHALE.txid, lane.now, BUMP.txid), Seen(BUMP), by=SECOND)
    assert [line[:10] for line in lane.message()] == ["❌ replaced"[:10]]


def test_what_was_confirmed_after_all_was_neither_replaced_nor_dropped(lane: Lane) -> None:
    lane.tell(Removed(WHALE.txid, lane.now, BUMP.txid), Seen(BUMP))
    lane.mine(840_000, WHALE)
    assert lane.message() == ["✅ confirmed in block 840,000, less than a minute after it was seen"]


def test_how_long_it_took_is_said_only_where_it_was_seen_before_its_block(lane: Lane) -> None:
    alone = spending("d" * 64, coin("cd" * 32, value=700 * BTC), pays=[(SHOP, 600 * BTC)])
    late = structs.replace(alone, seen_at=T0 + timedelta(hours=1))
    lane.find(840_000)
    lane.tell(Seen(late))
    lane.connection.execute("INSERT INTO confirmations VALUES (%s, '840000')", [late.txid])
    lane.now += timedelta(minutes=3)
    lane.mine(840_001, WHALE)
    assert lane.message(late) == ["✅ confirmed in block 840,000"]
    assert lane.message() == ["✅ confirmed in block 840,001, 3 min after it was seen"]


def test_the_end_is_told_when_the_replacement_or_another_one_is_confirmed(lane: Lane) -> None:
    lane.tell(Removed(WHALE.txid, lane.now, BUMP.txid), Seen(BUMP))
    lane.tell(Removed(BUMP.txid, lane.now, OTHER.txid), Seen(OTHER))
    lane.mine(840_000, OTHER)
    assert lane.message()[1:] == ["❌ cccccccc… was confirmed in block 840,000 instead: it spends the same coin"]
    assert [line.split(" ")[1] for line in lane.message()] == ["replaced", "cccccccc…"]
    lane.tell(BlockRemoved("840000"))
    assert [line.split(" ")[1] for line in lane.message()] == ["replaced"]
    assert lane.message(BUMP)[0].startswith("❌ replaced by cccccccc…")


def test_one_that_a_source_dropped_for_a_mined_spender_is_not_said_to_be_without_successor(lane: Lane) -> None:
    lane.tell(Seen(OTHER), by=SECOND)
    lane.mine(840_000, OTHER)
    lane.remove(WHALE)
    assert [line.split(" ")[1] for line in lane.message()] == ["cccccccc…"]


def test_a_reorganisation_unconfirms_at_once_and_another_block_confirms_again(lane: Lane) -> None:
    lane.mine(840_000, WHALE)
    woken = lane.woken
    lane.tell(BlockRemoved("840000"))
    assert [line[:9] for line in lane.message()] == ["✅ confirmed"[:9], "⚠️ block 840,000"[:9]]
    assert lane.woken == woken + 1
    lane.mine(840_001, WHALE)
    assert [line.split(",")[0] for line in lane.message()] == [
        "✅ confirmed in block 840",
        "⚠️ block 840",
        "✅ confirmed in block 840",
    ]


def test_a_block_that_comes_back_confirms_again(lane: Lane) -> None:
    lane.mine(840_000, WHALE)
    lane.tell(BlockRemoved("840000"))
    lane.find(840_000)
    assert [line.split(",")[0] for line in lane.message()] == [
        "✅ confirmed in block 840",
        "✅ confirmed again in block 840",
    ]


def untold(tx: Transaction) -> Transaction:
    spent = [SpentOutput(one.addr, one.value, one.type, one.n) for one in tx.inputs]
    return transaction(**{name: getattr(tx, name) for name in tx.__struct_fields__} | {"inputs": spent})


GUESSES = {
    "outpoints of both": (WHALE, BUMP, []),
    "of the mined one": (untold(WHALE), BUMP, ["b"]),
    "of the alerted one": (WHALE, untold(BUMP), []),
    "of none": (untold(WHALE), untold(BUMP), ["b"]),
}


@pytest.mark.parametrize(("alerted", "mined", "guesses"), GUESSES.values(), ids=GUESSES)
def test_nothing_is_guessed_where_outpoints_are_told(
    connection: Connection, alerted: Transaction, mined: Transaction, guesses: Sequence[str]
) -> None:
    lane = Lane(connection)
    lane.tell(Seen(alerted), Seen(mined))
    connection.execute("DELETE FROM contested_outpoints")  # it would be no guess
    for number in range(840_000, 840_003):
        lane.mine(number, *[mined][: number == 840_000])
        connection.execute(
            "UPDATE blocks SET fetched_at = %s, prev_hash = %s WHERE height = %s", [lane.now, str(number - 1), number]
        )
    insert_chain_updates(connection, lane.now)
    assert [line.removeprefix("❌ possibly replaced: ")[0] for line in lane.message()] == guesses
