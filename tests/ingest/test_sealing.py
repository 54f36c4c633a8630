"""When windows are sealed, and when a new shift is asked for."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import transaction
from txwatch.clock import WINDOW
from txwatch.ingest.sealing import (
    HANDOVER_LEAD,
    late_windows,
    sealable_windows,
    sealed_through,
    shift_needed,
    summarize_windows,
)
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import STALE_AFTER, Lease

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def lease(**changes: object) -> Lease:
    values = {
        "epoch": 3,
        "holder": "run 1234",
        "acquired_at": T0,
        "heartbeat_at": T0,
        "expires_at": T0 + timedelta(hours=1),
        "released_at": None,
        "committed_through": T0 - SECOND,
        "heard_at": T0 - SECOND,
        "received": 0,
        "duplicates": 0,
        "ignored": 0,
    }
    return Lease(**(values | changes))


@pytest.mark.parametrize(
    ("state", "through"),
    [
        (lease(), T0 - SECOND),
        (lease(committed_through=None), datetime.min.replace(tzinfo=UTC)),
        (lease(heartbeat_at=T0 - STALE_AFTER - SECOND, committed_through=T0 - WINDOW), T0 - 60 * SECOND),
        (lease(released_at=T0, committed_through=T0 - SECOND), T0 - SECOND),
        (None, T0 - 60 * SECOND),
        # A worker whose clock is an hour ahead has not heard what is to come.
        (lease(committed_through=T0 + 12 * WINDOW), T0),
        # The database's clock was set back by an hour, and the worker is dead since.
        (lease(heartbeat_at=T0 + 12 * WINDOW, committed_through=T0 - WINDOW), T0 - 60 * SECOND),
    ],
)
def test_windows_are_sealed_by_the_watermark_and_without_a_worker_after_a_minute(
    state: Lease | None, through: datetime
) -> None:
    assert sealed_through(state, T0) == through


def test_only_whole_windows_from_the_next_one_on_are_sealed() -> None:
    assert sealable_windows(T0, T0 + 2 * WINDOW - SECOND, 10) == [T0]
    assert sealable_windows(T0, T0 + 2 * WINDOW, 10) == [T0, T0 + WINDOW]
    assert sealable_windows(T0, T0 + 20 * WINDOW, 3) == [T0, T0 + WINDOW, T0 + 2 * WINDOW]
    assert sealable_windows(T0, T0 - WINDOW, 3) == []


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "no worker has run yet"),
        (lease(released_at=T0), "run 1234 has left"),
        (lease(heartbeat_at=T0 - timedelta(minutes=2)), "run 1234 was not heard for 120 s"),
        (
            lease(heartbeat_at=T0 + 12 * WINDOW),
            "run 1234 was heard 3600 s in the future: the database's clock was set back",
        ),
        (lease(expires_at=T0 + HANDOVER_LEAD - SECOND), "the shift of run 1234 ends in 59 s"),
        (lease(expires_at=T0 - 90 * SECOND), "the shift of run 1234 is over since 90 s"),
        (lease(), None),
        (lease(expires_at=None), None),
    ],
)
def test_a_shift_is_asked_for_with_a_reason(state: Lease | None, why: str | None) -> None:
    assert shift_needed(state, T0) == why


def test_a_window_without_traffic_is_summarized_with_its_gap(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        record_gaps(connection, [FeedGap(T0 + WINDOW - 30 * SECOND, T0 + WINDOW + 10 * SECOND, "test")])
        first, second = summarize_windows(connection, [T0, T0 + WINDOW])
    assert (first.rows, first.gaps, first.gap_seconds, first.lag_p50_ms) == (0, 1, 30, None)
    assert (second.window_start, second.gap_seconds) == (T0 + WINDOW, 10)


def test_a_window_that_may_have_been_sealed_before_a_transaction_landed_is_late() -> None:
    seen = [transaction(seen_at=T0 + n * WINDOW + SECOND) for n in (-3, -1, 0)]
    now = T0 + 5 * SECOND
    assert late_windows(seen, None, now) == {T0 - 3 * WINDOW}, "without a watermark a minute after its end"
    assert late_windows(seen, lease(committed_through=T0 - SECOND), now) == {T0 - 3 * WINDOW}
    assert late_windows(seen, lease(committed_through=T0), now) == {T0 - 3 * WINDOW, T0 - WINDOW}
    assert late_windows(seen[2:], lease(committed_through=T0), now) == set()
    ahead = lease(committed_through=T0 + 12 * WINDOW)
    assert late_windows(seen[2:], ahead, now) == set(), "a clock that is ahead has sealed nothing ahead"
