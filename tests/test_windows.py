"""The window arithmetic: every moment lies in exactly one window, and keys go there and back."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from txwatch.clock import (
    WINDOW,
    context_window,
    contiguous,
    parse_window_key,
    window_key,
    window_range,
    window_start,
)

moments = st.datetimes(datetime(2009, 1, 3), datetime(2099, 1, 1), timezones=st.just(UTC))


@given(moments)
def test_every_moment_lies_in_its_window(moment: datetime) -> None:
    start = window_start(moment)
    assert start <= moment < start + WINDOW
    assert start.minute % 5 == start.second == start.microsecond == 0
    assert window_start(start) == start
    assert parse_window_key(window_key(start)) == start


@given(moments, st.integers(0, 500), st.timedeltas(timedelta(0), WINDOW - timedelta(microseconds=1)))
def test_a_range_holds_the_whole_windows_only(moment: datetime, count: int, rest: timedelta) -> None:
    start = window_start(moment)
    starts = window_range(start, start + count * WINDOW + rest)
    assert len(starts) == count
    assert all(window_start(s) == s for s in starts)
    assert contiguous(starts[::-1]) == ([(starts[0], starts[-1])] if starts else [])


def test_runs_break_where_a_window_is_missing() -> None:
    a, b, _, d = window_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 20, tzinfo=UTC))
    assert contiguous([d, b, a, a]) == [(a, b), (d, d)]


def test_a_run_has_no_more_windows_than_its_limit() -> None:
    a, b, c, d, e = window_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 25, tzinfo=UTC))
    assert contiguous([a, b, c, d, e], limit=2) == [(a, b), (c, d), (e, e)]


def test_the_context_is_two_windows_back() -> None:
    assert context_window(datetime(2024, 1, 1, tzinfo=UTC)) == datetime(2023, 12, 31, 23, 50, tzinfo=UTC)
