"""Coins that several transactions spend are noted as contested, whoever tells of them in which order."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import T0, coin, spending, transaction
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.sources.source import Seen
from txwatch.store.database import Connection, connect
from txwatch.wire.transaction import Transaction

COINS = [coin("ab" * 32, n) for n in range(3)]
FIRST = spending("1" * 64, *COINS[:2])
SECOND = spending("2" * 64, *COINS[1:], seen_at=T0 + timedelta(seconds=5))


@pytest.fixture
def rows(fresh: str) -> Iterator[Connection]:
    with connect(fresh) as connection:
        yield connection


def contested(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT vout, seen_at FROM contested_outpoints ORDER BY vout").fetchall()


def land(connection: Connection, *told: tuple[str, Transaction], recent: RecentTxids | None = None) -> None:
    batch = Batch(T0, T0)
    for source, tx in told:
        batch.add(Seen(tx), source, recent or RecentTxids())
    commit(connection, batch, epoch=None, now=T0)


@pytest.mark.parametrize(
    "batches", [[[FIRST, SECOND]], [[FIRST], [SECOND]], [[SECOND], [FIRST]], [[FIRST, SECOND]] * 2]
)
def test_a_coin_that_two_transactions_spend_is_contested(rows: Connection, batches: list[list[Transaction]]) -> None:
    for batch in batches:
        land(rows, *(("a node", tx) for tx in batch))
    assert contested(rows) == [(1, SECOND.seen_at)]


def test_who_tells_the_outpoints_later_tells_them_in_time(rows: Connection) -> None:
    recent = RecentTxids()
    untold = transaction(txid=FIRST.txid)
    land(rows, ("blockchain.info", untold), ("a node", SECOND), recent=recent)
    assert contested(rows) == []
    land(rows, ("a node", FIRST), ("blockchain.info", SECOND), ("another", FIRST), recent=recent)
    assert contested(rows) == [(1, SECOND.seen_at)]
    assert rows.execute("SELECT inputs -> 0 ? 'txid' FROM transactions ORDER BY txid").fetchall() == [(False,), (True,)]
