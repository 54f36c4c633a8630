"""Days that are older than the archive's own retention leave it whole, and fail no query."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.archive.filled import DAY, NEXT, fill_day
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.days import archive_troubles, days_to_archive, read_all_days, read_days
from txwatch.archive.manifest import Archive
from txwatch.archive.query import ask
from txwatch.archive.removal import READERS_END_WITHIN, Removed, remove_days
from txwatch.archive.upkeep import adopt, give_up_days
from txwatch.settings import Settings, WrongSettingError
from txwatch.store.database import Connection

NOW = datetime.fromisoformat("2024-06-16T04:17Z")
NIGHT = timedelta(days=1)
AFTER_DAY = datetime.fromisoformat("2024-03-15T00:00Z")
AFTER_NEXT = AFTER_DAY + NIGHT
NAMES = sorted(ARCHIVED)


def given_up(connection: Connection, archive: Archive) -> None:
    """Two days that only the archive has."""
    for day in DAY, NEXT:
        fill_day(connection, day)
    assert {one.why for one in give_up_days(connection, archive, AFTER_NEXT, NOW)} == {None}


def files(archive: Archive) -> list[str]:
    return sorted(path.name for path in Path(str(archive.place)).rglob("*") if path.is_file())


def removed(connection: Connection, archive: Archive, now: datetime, before: datetime = AFTER_DAY) -> list[Removed]:
    return sorted(remove_days(connection, archive, before, now), key=lambda one: (one.dataset, one.day))


def told(database_url: str, archive: Archive) -> int:
    with ask(database_url, archive, "SELECT txid FROM transactions") as answer:
        assert answer.notes == []
        return sum(batch.num_rows for batch in answer.batches)


def test_a_day_that_is_too_old_goes_whole_a_night_after_no_query_sees_it(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    given_up(connection, archive)
    assert (told(database_url, archive), len(files(archive))) == (80, 12)
    assert removed(connection, archive, NOW) == []
    assert (told(database_url, archive), len(files(archive))) == (40, 12), "who reads it already finds it"
    assert removed(connection, archive, NOW + READERS_END_WITHIN - timedelta(seconds=1)) == []

    gone = removed(connection, archive, NOW + NIGHT)
    assert [(one.dataset, one.day, one.why) for one in gone] == [(name, DAY, None) for name in NAMES]
    assert all(one.bytes > 0 for one in gone)
    assert (told(database_url, archive), len(files(archive))) == (40, 6)
    assert all(name.startswith(str(NEXT)) for name in files(archive))
    assert {(one.dataset, one.day) for one in read_all_days(connection)} == {(name, NEXT) for name in NAMES}
    assert removed(connection, archive, NOW + 2 * NIGHT) == []
    assert adopt(connection, archive, NOW + 2 * NIGHT) == []


def test_a_query_that_began_before_reads_its_file_to_the_end(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    given_up(connection, archive)
    with ask(database_url, archive, "SELECT txid FROM transactions") as answer:
        assert removed(connection, archive, NOW) == []
        assert sum(batch.num_rows for batch in answer.batches) == 80


def test_a_day_that_the_database_still_has_stays(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    list(give_up_days(connection, archive, AFTER_DAY, NOW))
    fill_day(connection, rows=3, seed=9)
    for night in range(3):
        assert removed(connection, archive, NOW + night * NIGHT) == []
    assert len(read_days(connection)) == 3


def test_a_day_into_which_something_comes_meanwhile_is_archived_again_and_goes_later(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    given_up(connection, archive)
    assert removed(connection, archive, NOW) == []
    fill_day(connection, rows=3, seed=9)
    assert removed(connection, archive, NOW + NIGHT) == []
    assert days_to_archive([DAY], read_days(connection)) == [DAY]
    assert {one.why for one in give_up_days(connection, archive, AFTER_DAY, NOW + NIGHT)} == {None}
    assert told(database_url, archive) == 83
    assert removed(connection, archive, NOW + NIGHT) == []
    assert len(removed(connection, archive, NOW + 2 * NIGHT)) == 3
    assert told(database_url, archive) == 40


def test_a_removal_that_was_interrupted_is_finished(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up(connection, archive)
    assert removed(connection, archive, NOW) == []
    unlink, left = Path.unlink, [4]

    def refusing(path: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refusing)
        gone = removed(connection, archive, NOW + NIGHT)
    assert [one.why is None for one in gone].count(True) == 2
    assert "Permission denied" in str([one.why for one in gone if one.why])
    for dataset in ARCHIVED.values():
        for manifest in (archive.manifest(dataset, day) for day in archive.days(dataset)):
            assert manifest is not None
            assert archive.file(manifest, dataset).exists()  # type: ignore[union-attr]
    assert [one.why for one in removed(connection, archive, NOW + 2 * NIGHT)] == [None]
    assert len(files(archive)) == 6


def test_a_day_that_was_given_up_while_a_clock_was_ahead_waits_from_now_on(
    connection: Connection, archive: Archive
) -> None:
    given_up(connection, archive)
    assert removed(connection, archive, NOW + 365 * NIGHT) == []
    assert removed(connection, archive, NOW) == []
    assert len(removed(connection, archive, NOW + NIGHT)) == 3


def test_a_day_that_was_given_up_is_no_trouble_and_is_not_checked(connection: Connection, archive: Archive) -> None:
    given_up(connection, archive)
    connection.execute("UPDATE archived_days SET broken = 'its file is damaged' WHERE day = %s", [DAY])
    assert len(archive_troubles(connection, NOW).texts) == 3
    assert removed(connection, archive, NOW) == []
    assert archive_troubles(connection, NOW).texts == []
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    Path(str(archive.file(manifest, TRANSACTIONS))).unlink()
    assert len(removed(connection, archive, NOW + NIGHT)) == 3


def test_the_archive_keeps_its_days_at_least_as_long_as_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXWATCH_RETENTION_DAYS", "14")
    for text, days in ("", None), ("14", 14), ("365", 365):
        monkeypatch.setenv("TXWATCH_ARCHIVE_DAYS", text)
        assert Settings().archive_days == days
    for wrong in "13", "0", "for good":
        monkeypatch.setenv("TXWATCH_ARCHIVE_DAYS", wrong)
        with pytest.raises(WrongSettingError, match="TXWATCH_ARCHIVE_DAYS"):
            Settings()
