"""A commit is all or nothing, is tried again when databases quarrel, and is told apart when it comes twice."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import transaction
from tests.ingest.following import query
from tests.waiting import PATIENCE_SECONDS
from txwatch.ingest.batch import Batch
from txwatch.ingest.lander import commit
from txwatch.sources.blockchain_info import NAME
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import NO_WORKER, FeedGap, record_gaps
from txwatch.store.lease import read_lease, renew_lease, take_lease
from txwatch.store.sightings import FollowedSource
from txwatch.store.transactions import QuarantinedMessage, land_transactions
from txwatch.wire.transaction import Transaction

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def batch(*numbers: int, **changes: object) -> Batch:
    transactions = [transaction(txid=f"{n:064x}", seen_at=T0) for n in numbers]
    values = {"transactions": transactions, "received": len(numbers), "gaps": [FeedGap(T0, T0 + SECOND, "test")]}
    return Batch(T0, T0 + SECOND, **(values | changes))


def test_a_batch_whose_commit_was_not_answered_counts_once(fresh: str) -> None:
    with connect(fresh) as connection:
        epoch = take_lease(connection, "test", T0, None)
        malformed = [QuarantinedMessage(T0, "not JSON", b"{")]
        first = commit(connection, batch(1, 2, malformed=malformed, duplicates=3), epoch=epoch, now=T0)
        again = commit(connection, batch(1, 2, malformed=malformed, duplicates=3), epoch=epoch, now=T0)
    assert (first.new, again.new) == (2, 0)
    assert query(fresh, "SELECT received, duplicates FROM ingest_lease") == [(2, 3)]
    for table in ("feed_gaps", "quarantined_messages"):
        assert query(fresh, f"SELECT count(*) FROM {table}") == [(1,)]  # noqa: S608


def test_a_batch_says_when_a_transaction_was_heard_last(fresh: str) -> None:
    """Not when it came empty: the feed would never be taken for silent."""
    with connect(fresh) as connection:
        epoch = take_lease(connection, "test", T0, None)
        for second, numbers in enumerate([(), (1,), (), ()]):
            commit(connection, batch(*numbers), epoch=epoch, now=T0 + second * SECOND)
            assert query(fresh, "SELECT heard_at FROM ingest_lease") == [(T0 + SECOND if second else None,)]


def test_a_lease_that_changes_hands_claims_nothing_that_nobody_committed(fresh: str) -> None:
    """A worker that heard before it had the lease, and died, may have left in its spool what is older than that."""
    with connect(fresh) as connection:
        for hour in range(2):
            take_lease(connection, f"worker {hour}", T0 + timedelta(hours=hour), None)
            lease = read_lease(connection)
            assert lease is not None
            assert (lease.committed_through, lease.watermark) == (None, None)
        renew_lease(connection, lease.epoch, T0, T0 + SECOND)  # by a clock that is ahead
        take_lease(connection, "worker 2", T0 + timedelta(hours=2), None)
    assert query(fresh, "SELECT committed_through FROM ingest_lease") == [(T0,)]


@pytest.mark.parametrize("count", [1, 7, 2_000])
def test_a_transaction_that_cannot_be_scored_is_alone_in_that(fresh: str, count: int) -> None:
    scored: list[str] = []
    when_committed: list[int] = []

    class Scoring:
        def write(self, connection: Connection, new: Sequence[Transaction]) -> None:
            connection.execute("CREATE TABLE IF NOT EXISTS scored (txid text)")
            for tx in new:
                connection.execute("INSERT INTO scored VALUES (%s)", [tx.txid])
            if any(int(tx.txid, 16) == count // 2 for tx in new):
                raise OverflowError("no number of this kind")
            scored.extend(tx.txid for tx in new)

        def follow_up(self, _connection: Connection, _batch: Batch) -> None:
            pass

        def committed(self) -> None:
            when_committed.extend(n for (n,) in query(fresh, "SELECT count(*) FROM transactions"))

    with connect(fresh) as connection:
        commit(connection, batch(*range(count)), epoch=None, now=T0, hook=Scoring())
    assert len(scored) == count - 1
    assert when_committed == [count], "called once, and after the commit"
    assert query(fresh, "SELECT count(*) FROM transactions") == [(count,)]
    if count > 1:
        assert query(fresh, "SELECT count(*), count(DISTINCT txid) FROM scored") == [(count - 1, count - 1)]


def test_scoring_that_fails_for_all_is_given_up_after_some_tries(fresh: str) -> None:
    tries: list[int] = []

    class Failing:
        def write(self, _connection: Connection, new: Sequence[Transaction]) -> None:
            tries.append(len(new))
            raise ValueError("another contract")

        def follow_up(self, _connection: Connection, _batch: Batch) -> None:
            pass

        def committed(self) -> None:
            pass

    with connect(fresh) as connection:
        commit(connection, batch(*range(1_000)), epoch=None, now=T0, hook=Failing())
    assert len(tries) < 30
    assert query(fresh, "SELECT count(*) FROM transactions") == [(1_000,)]


def test_a_deadlock_is_tried_again(fresh: str) -> None:
    with connect(fresh) as connection, connect(fresh) as other:
        epoch = take_lease(connection, "test", T0, None)
        # Who looks for a deadlock first gives way, and looks once: when both wait, on a slow machine as well.
        connection.execute("SET deadlock_timeout = '3s'")
        other.execute("SET deadlock_timeout = '1min'")
        with other.transaction():
            land_transactions(other, [transaction(txid=f"{2:064x}", seen_at=T0)])
            landing = threading.Thread(
                target=commit, args=(connection, batch(1, 2, 3)), kwargs={"epoch": epoch, "now": T0}
            )
            landing.start()
            while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                pass
            # Each waits for the other now.
            land_transactions(other, [transaction(txid=f"{1:064x}", seen_at=T0)])
        landing.join(PATIENCE_SECONDS)
    assert query(fresh, "SELECT count(*) FROM transactions") == [(3,)]
    assert query(fresh, "SELECT received FROM ingest_lease") == [(3,)]


@pytest.mark.parametrize(
    ("gap", "left"),
    [
        ((0, 5), []),
        ((0, 15), [(10, 15)]),
        ((-5, 5), [(-5, 5)]),
        ((20, 25), [(20, 25)]),
    ],
)
def test_a_worker_that_was_taken_for_dead_takes_back_what_it_heard(
    fresh: str, gap: tuple[int, int], left: list[tuple[int, int]]
) -> None:
    with connect(fresh) as connection:
        old = take_lease(connection, "old", T0, None)
        take_lease(connection, "new", T0, None)
        start, end = (T0 + n * SECOND for n in gap)
        record_gaps(connection, [FeedGap(start, end, NO_WORKER, "epoch 2"), FeedGap(T0 + SECOND, T0 + 2 * SECOND, "x")])
        heard = FollowedSource(NAME, T0, T0, T0, True, "connected", 1.0, 83)
        away = FollowedSource("mempool.space", T0, T0, T0, False, "answers", 1.0, 83)
        record_gaps(connection, [FeedGap(start, end, NO_WORKER, "epoch 2", away.source)])
        late = Batch(T0, T0 + 10 * SECOND, [transaction(seen_at=T0)], received=1, sources=[heard, away])
        assert commit(connection, late, epoch=old, now=T0).superseded
        narrowed = "SELECT started_at, ended_at FROM feed_gaps WHERE cause = %s AND source = %s"
        rows = connection.execute(narrowed, [NO_WORKER, NAME]).fetchall()
        assert connection.execute(narrowed, [NO_WORKER, away.source]).fetchall() == [(start, end)]
    assert [((a - T0) // SECOND, (b - T0) // SECOND) for a, b in rows] == left
    assert query(fresh, "SELECT count(*) FROM feed_gaps WHERE cause = 'x'") == [(1,)]
