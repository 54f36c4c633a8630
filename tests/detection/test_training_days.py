"""A day of training drawn from many: each hour of the clock once, from archived and stored days alike."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.archive.filled import drop_all, write
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.builders import transaction
from txwatch.archive.datasets import ARCHIVED, FEATURES
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.detection.training_days import draw_day
from txwatch.features.contract import FEATURE_NAMES
from txwatch.store.database import Connection, connect

FIRST = date(2024, 3, 1)
UNTIL = datetime(2024, 3, 8, 6, 30, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=n) for n in range(7)]


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """Three transactions in each hour of eight days."""
    with connect(database_url) as connection:
        drop_all(connection)
        random = Random(1)  # noqa: S311
        start = datetime(2024, 3, 1, tzinfo=UTC)
        moments = [start + timedelta(hours=n, minutes=20 * third) for n in range(24 * 8) for third in range(3)]
        write(connection, [transaction(txid=f"{random.getrandbits(256):064x}", seen_at=at) for at in moments], random)
        yield connection


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", tmp_path / "work")


def archive_days(connection: Connection, archive: Archive, days: list[date]) -> None:
    for day in days:
        for dataset in ARCHIVED.values():
            archive_day(connection, archive, dataset, day, UNTIL)


def damage(archive: Archive, day: date) -> None:
    manifest = archive.manifest(FEATURES, day)
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, FEATURES))))


def test_each_hour_of_the_clock_is_drawn_once_and_whole_from_days_spread_evenly(connection: Connection) -> None:
    drawn = draw_day(connection, None, UNTIL, 7, seed=1)
    assert (drawn.hours, drawn.left_out) == (24, [])
    assert drawn.since == datetime(2024, 3, 1, 6, tzinfo=UTC)
    seen = drawn.frame["seen_at"]
    assert Counter(seen.dt.hour) == dict.fromkeys(range(24), 3)
    assert seen.is_monotonic_increasing
    assert seen.max() < UNTIL.replace(minute=0)
    of_days = Counter(seen.dt.date)
    assert len(of_days) >= 7
    assert max(of_days.values()) <= 5 * 3
    assert list(drawn.frame.columns) == ["txid", "seen_at", *FEATURE_NAMES]


def test_the_same_rows_are_drawn_before_and_after_days_are_given_up(connection: Connection, archive: Archive) -> None:
    hot = draw_day(connection, archive, UNTIL, 7, seed=1)
    archive_days(connection, archive, DAYS)
    for day in DAYS[:5]:
        give_up(connection, day)
    cold = draw_day(connection, archive, UNTIL, 7, seed=1)
    assert cold.frame.equals(hot.frame)
    assert not draw_day(connection, archive, UNTIL, 7, seed=2).frame["txid"].equals(hot.frame["txid"])


def test_a_day_that_is_missing_or_damaged_is_named_and_another_gives_its_hours(
    connection: Connection, archive: Archive
) -> None:
    archive_days(connection, archive, DAYS)
    for day in DAYS[:5]:
        give_up(connection, day)
    damage(archive, DAYS[1])
    connection.execute("DELETE FROM archived_days WHERE day = %s", [DAYS[2]])
    drawn = draw_day(connection, archive, UNTIL, 7, seed=1)
    assert drawn.left_out == [
        "features of 2024-03-02: its file is damaged",
        "2024-03-03: no features of it are stored",
    ]
    assert drawn.hours == 24
    assert {DAYS[1], DAYS[2]} & set(drawn.frame["seen_at"].dt.date) == set()


def test_days_before_the_first_one_are_not_missing(connection: Connection) -> None:
    drawn = draw_day(connection, None, UNTIL, 30, seed=1)
    assert (drawn.since, drawn.hours, drawn.left_out) == (datetime(2024, 3, 1, tzinfo=UTC), 24, [])


def test_of_less_than_a_day_there_are_fewer_hours_and_of_nothing_none(connection: Connection) -> None:
    few = draw_day(connection, None, datetime(2024, 3, 1, 5, tzinfo=UTC), 7, seed=1)
    assert (few.hours, len(few.frame)) == (5, 15)
    none = draw_day(connection, None, datetime(2024, 3, 1, tzinfo=UTC), 7, seed=1)
    assert (none.hours, len(none.frame)) == (0, 0)
