"""Sources are compared by what each told, when, and of what was mined."""

from datetime import timedelta

import pytest

from tests.builders import T0
from txwatch.queries.sources import read_sources
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.sightings import (
    FollowedSource,
    MinedTransaction,
    Sighting,
    land_sightings,
    note_sources,
    record_completeness,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
NODE, FEED = "bitcoin-core", "blockchain.info"


def follow_both(connection: Connection) -> None:
    text = "Bitcoin Core 29.0, 120 transactions in its mempool"
    note_sources(
        connection,
        [
            FollowedSource(NODE, T0 - HOUR, T0, T0, True, text, 1.0, 83),
            FollowedSource(FEED, T0 - HOUR, T0 - 60 * SECOND, T0, False, "connected", 0.1, 100_000),
        ],
    )


def test_each_is_counted_beside_the_other(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        follow_both(connection)
        at = T0 - 600 * SECOND
        by_node = [Sighting(f"{n:064x}", NODE, at + n * SECOND) for n in range(10)]
        # Eight are the same, half of them two seconds earlier; and two of its own.
        by_feed = [Sighting(f"{n:064x}", FEED, at + (n + (2 if n % 2 else -2)) * SECOND) for n in range(8)]
        by_feed += [Sighting(f"{n:064x}", FEED, at + n * SECOND) for n in (20, 21)]
        land_sightings(connection, [*by_node, *by_feed, Sighting("f" * 64, FEED, T0 - SECOND)])
        land_sightings(connection, [Sighting(f"{0:064x}", NODE, at - HOUR)])  # the first of a source counts
        record_gaps(connection, [FeedGap(T0 - 90 * SECOND, T0 - 60 * SECOND, "closed", "heard again", FEED, 3)])
        node, feed = read_sources(connection, T0)
    assert (node.source, node.connected, node.transactions_1h, node.alone_1h, node.first_1h) == (NODE, True, 10, 2, 4)
    assert (feed.source, feed.connected, feed.transactions_1h, feed.alone_1h, feed.first_1h) == (FEED, False, 10, 2, 4)
    assert node.share_1h == pytest.approx(10 / 12)
    assert (node.behind_p50_ms, feed.behind_p99_ms) == (2_000, 2_000)
    assert (node.gaps_1d, feed.gaps_1d, feed.gap_seconds_1d, feed.recovered_1d) == (0, 1, 30, 3)


def test_what_a_source_left_out_is_explained_by_its_policy(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        follow_both(connection)
        connection.execute(
            "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count) VALUES ('b', 1, %s, %s, 6)", [T0, T0]
        )
        mined = [
            MinedTransaction("told", T0 - 60 * SECOND, 5.0, 0),
            MinedTransaction("told too late", T0 - 60 * SECOND, 5.0, 0),
            MinedTransaction("cheap", T0 - 60 * SECOND, 0.5, 0),
            MinedTransaction("full of data", T0 - 60 * SECOND, 5.0, 90_000),
            MinedTransaction("unknown fee", T0 - 60 * SECOND, None, 0),
            MinedTransaction("older than the following", T0 - 2 * HOUR, 5.0, 0),
        ]
        told = [Sighting("told", NODE, T0 - 60 * SECOND), Sighting("told too late", NODE, T0 + SECOND)]
        land_sightings(connection, [*told, Sighting("cheap", FEED, T0 - 60 * SECOND)])
        for _ in range(2):  # a block may be read again
            record_completeness(connection, "b", mined, T0)
        node, feed = read_sources(connection, T0)
        connection.execute("UPDATE blocks SET stale = true")
        assert read_sources(connection, T0)[0].completeness_1d is None
    assert (node.completeness_1d, node.explained_1d) == (1 / 5, 2 / 5)
    assert (feed.completeness_1d, feed.explained_1d) == (1 / 5, 0)


def test_a_source_of_another_network_misses_nothing(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        follow_both(connection)
        since, told = T0 - HOUR, T0 - 60 * SECOND
        note_sources(connection, [FollowedSource("bitcoin-core-2", since, T0, T0, True, "", 1.0, 83, "regtest")])
        land_sightings(connection, [Sighting("a", "bitcoin-core-2", told), Sighting("b", NODE, told)])
        record_completeness(connection, "of regtest", [MinedTransaction("a", told, 5.0, 0)], T0, "regtest")
        record_completeness(connection, "of the main network", [MinedTransaction("b", told, 5.0, 0)], T0)
        rows = "SELECT block_hash, source, seen_before_count, mined_count FROM block_completeness ORDER BY 1, 2"
        assert connection.execute(rows).fetchall() == [
            ("of regtest", "bitcoin-core-2", 1, 1),
            ("of the main network", NODE, 1, 1),
            ("of the main network", FEED, 0, 1),
        ]


def test_a_source_that_is_followed_no_more_is_not_judged(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        follow_both(connection)
        record_completeness(connection, "b", [MinedTransaction("a", T0 + 2 * HOUR, 5.0, 0)], T0 + 3 * HOUR)
        assert connection.execute("SELECT count(*) FROM block_completeness").fetchone() == (0,)
        assert read_sources(connection, T0 + 25 * HOUR) == []
