"""When nothing was heard: of several sources, what one misses another may hear."""

from datetime import datetime, timedelta

import pytest

from tests.builders import T0
from txwatch.store.database import connect, scalar
from txwatch.store.gaps import ALL_SOURCES, FeedGap, record_gaps
from txwatch.store.sightings import FollowedSource, note_sources

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def followed(source: str, since: float = -60, until: float = 60) -> FollowedSource:
    start, end = T0 + since * MINUTE, T0 + until * MINUTE
    return FollowedSource(source, start, end, end, True, "connected", 1.0, 83)


def gap(source: str, start: float, end: float | None) -> FeedGap:
    return FeedGap(T0 + start * MINUTE, None if end is None else T0 + end * MINUTE, "test", source=source)


A, B = "bitcoin-core", "mempool.space"


@pytest.mark.parametrize(
    ("sources", "gaps", "unheard"),
    [
        ([followed(A)], [gap(A, 1, 3), gap(A, 2, 4)], [(1, 4)]),
        ([followed(A), followed(B)], [gap(A, 1, 5)], []),
        ([followed(A), followed(B)], [gap(A, 1, 5), gap(B, 4, 9)], [(4, 5)]),
        ([followed(A), followed(B)], [gap(A, 1, None), gap(B, 4, None)], [(4, 60)]),
        # B was followed before or after, so that nothing was heard while A was away.
        ([followed(A), followed(B, until=2)], [gap(A, 1, 5)], [(2, 5)]),
        ([followed(A), followed(B, since=3)], [gap(A, 1, 5)], [(1, 3)]),
        # What could not be kept is lost, whoever told it.
        ([followed(A), followed(B)], [gap(ALL_SOURCES, 1, 2)], [(1, 2)]),
        ([], [gap(A, 1, 2)], [(1, 2)]),
        ([followed(A)], [], []),
    ],
)
def test_nothing_was_heard_while_every_followed_source_was_away(
    database_url: str, sources: list[FollowedSource], gaps: list[FeedGap], unheard: list[tuple[float, float]]
) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        note_sources(connection, sources)
        record_gaps(connection, gaps)
        found = connection.execute(
            "SELECT lower(stretch), upper(stretch) FROM unnest(unheard(%s, %s, '')) AS stretch", [T0 - HOUR, T0 + HOUR]
        ).fetchall()
    assert found == [(T0 + start * MINUTE, T0 + end * MINUTE) for start, end in unheard]


def test_what_was_recovered_is_heard(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        record_gaps(connection, [gap(A, 1, 2)])
        connection.execute("UPDATE feed_gaps SET state = 'recovered'")
        query = "SELECT isempty(unheard(%s, %s, 'recovered'))"
        assert scalar(connection, query, [T0, datetime.max.replace(tzinfo=T0.tzinfo)])
