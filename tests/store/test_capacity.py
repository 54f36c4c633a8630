"""What the disks will hold is measured, and the day on which one is full is named in time."""

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.archive.filled import DAY, fill_day
from tests.builders import T0
from txwatch.alerts.conditions import State
from txwatch.alerts.health import conditions, read_health
from txwatch.archive.datasets import FEATURES, TRANSACTIONS
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.clock import WINDOW
from txwatch.features.network import publish_network_baseline
from txwatch.store.capacity import Disk, Growth, Kept, Usage, database_folder, disks, read_disks, read_usage
from txwatch.store.database import connect, scalar

GB = 10**9
HERE = Path("/")


def disk(free: int, *growths: tuple[float, float]) -> Disk:
    """With so many bytes free, and growths of so many bytes a day for so many days."""
    return Disk(HERE, free, tuple(Growth("all takes", HERE, a_day, days) for a_day, days in growths))


@pytest.mark.parametrize(
    ("found", "days"),
    [
        (disk(10 * GB, (GB, 30)), 10),
        (disk(30 * GB, (GB, 30)), math.inf),
        (disk(30 * GB - 1, (GB, 30)), 30 - 1 / GB),
        (disk(10 * GB, (GB, 0)), math.inf),
        (disk(10 * GB, (GB, 5), (GB / 2, math.inf)), 10),
        (disk(3 * GB, (GB, 5), (GB / 2, math.inf)), 2),
        (disk(GB, (GB / 2, math.inf)), 2),
        (disk(0, (GB, 1)), 0),
        (disk(GB), math.inf),
    ],
)
def test_a_disk_is_full_when_what_fills_it_has_filled_it(found: Disk, days: float) -> None:
    assert found.full_in == pytest.approx(days)
    assert found.is_full_soon == (days <= 14)


def test_it_is_said_in_words() -> None:
    assert disk(10 * GB, (GB, 30)).text(T0) == "all takes 1.0 GB a day; 10.0 GB are free under /: full on 2024-03-24"
    assert disk(10 * GB, (GB, 3)).text(T0).endswith("enough for all that is kept")
    assert (
        disk(10 * GB, (10**5, math.inf))
        .text(T0)
        .endswith("all takes 0.1 MB a day; 10.0 GB are free under /, enough for ten years")
    )


def test_database_and_archive_count_together_where_they_are_on_one_disk(tmp_path: Path) -> None:
    usage = Usage(bytes_a_day=GB, days=4, archived_bytes_a_day=GB / 5)
    [both] = disks(usage, Kept(14, tmp_path / "not there yet"), tmp_path)
    assert [(growth.bytes_a_day, growth.days) for growth in both.growths] == [(GB, 10), (GB / 5, math.inf)]
    assert "holds 4.0 of 14 days, takes 1.0 GB a day, the archive takes 0.2 GB a day" in both.text(T0)
    [alone] = disks(usage, Kept(14, tmp_path), None)
    assert [growth.bytes_a_day for growth in alone.growths] == [GB / 5]
    [unseen] = disks(usage, Kept(14, tmp_path / ("x" * 300)), None)
    assert unseen.place == tmp_path, "what cannot be looked at is on the disk of what is above it"
    [full] = disks(usage, Kept(3), tmp_path)
    assert (full.growths[0].days, full.full_in) == (0, math.inf), "the night drops what is too old"
    assert disks(usage, Kept(14), None) == []


def test_what_a_day_takes_is_measured(database_url: str, tmp_path: Path) -> None:
    with connect(database_url) as connection:
        assert read_usage(connection) is None
        fill_day(connection, rows=400)
        midnight = T0.replace(hour=0)
        publish_network_baseline(connection, midnight, midnight + 24 * timedelta(hours=1))
        usage = read_usage(connection)
        assert usage is not None
        [(windows, before)] = connection.execute(
            "SELECT count(DISTINCT date_bin(%s, seen_at, 'epoch')), pg_total_relation_size('transactions')"
            " FROM transactions",
            [WINDOW],
        ).fetchall()
        assert usage.days == pytest.approx(windows / 288)
        assert usage.bytes_a_day * usage.days > before
        assert usage.archived_bytes_a_day is None
        archive = Archive(tmp_path / "archive", tmp_path / "work")
        written = [archive_day(connection, archive, dataset, DAY, T0) for dataset in (TRANSACTIONS, FEATURES)]
        measured = read_usage(connection)
        assert measured is not None
        assert measured.archived_bytes_a_day == sum(manifest.bytes for manifest in written)
        assert database_folder(connection) == Path(scalar(connection, "SHOW data_directory"))
        kept = Kept(14, archive.place)
        told = [growth for disk in read_health(connection, Path("/"), T0, kept=kept).disks for growth in disk.growths]
        assert told == [growth for disk in read_disks(connection, kept) for growth in disk.growths]
        assert sorted(growth.bytes_a_day for growth in told) == [measured.archived_bytes_a_day, measured.bytes_a_day]


def test_a_disk_that_will_be_full_is_an_alert_of_its_own(database_url: str) -> None:
    with connect(database_url) as connection:
        health = read_health(connection, Path("/"), T0)

    def told(*found: Disk) -> tuple[State, str]:
        [one] = [one for one in conditions(replace(health, disks=found), T0) if one.name == "disk_fills"]
        return one.state, one.text

    assert told()[0] is State.unknown
    assert told(disk(30 * GB, (GB, 20)))[0] is State.well
    state, text = told(disk(30 * GB, (GB, 20)), disk(9 * GB, (GB, 20)), disk(8 * GB, (GB, 20)))
    assert state is State.wrong
    assert text.startswith("A disk will be full: all takes 1.0 GB a day; 8.0 GB are free under /: full on 2024-03-22")
