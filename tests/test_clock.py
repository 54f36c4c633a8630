"""The worker's clock never goes back, whatever the system's clock does."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from txwatch.clock import MonotoneClock

T0 = datetime(2024, 1, 1, tzinfo=UTC)


@given(st.lists(st.timedeltas(timedelta(days=-1), timedelta(days=1)), min_size=2))
def test_moments_increase_strictly_through_every_step_of_the_clock(offsets: list[timedelta]) -> None:
    readings = iter(T0 + offset for offset in offsets)
    clock = MonotoneClock(lambda: next(readings))
    moments = [clock() for _ in offsets]
    assert all(a < b for a, b in pairwise(moments))
    assert all(moment >= T0 + offset for moment, offset in zip(moments, offsets, strict=True))
