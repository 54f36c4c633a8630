"""A day leaves the database only when the archive has it; what is not so stays, and is named."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.archive.filled import DAY, NEXT, fill_day
from tests.archive.test_query import EVERYTHING, rows
from tests.archive.test_writing import flip_a_bit
from tests.databases import empty_tables
from txwatch.alerts.conditions import State
from txwatch.alerts.health import conditions, read_health
from txwatch.archive.datasets import ARCHIVED, FEATURES, TRANSACTIONS
from txwatch.archive.days import archive_troubles, closed_days, day_span, days_to_archive, read_day, read_days
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import local_file
from txwatch.archive.upkeep import adopt, check_files, give_up_days
from txwatch.archive.writing import archive_day
from txwatch.clock import window_range
from txwatch.store.capacity import Kept
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import note_late_windows

NOW = datetime.fromisoformat("2024-03-16T06:00Z")
MIDNIGHT = datetime.fromisoformat("2024-03-15T00:00Z")


def archive_all(connection: Connection, archive: Archive) -> None:
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, DAY, NOW)


def counts(connection: Connection) -> dict[str, int]:
    return {name: scalar(connection, f"SELECT count(*) FROM {one.table}") for name, one in ARCHIVED.items()}  # type: ignore[arg-type] # noqa: S608


def test_a_day_is_given_up_once_the_archive_has_it(database_url: str, connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    before = {name: repr(rows(database_url, None, query)) for name, query in EVERYTHING.items()}
    archive_all(connection, archive)
    given = list(give_up_days(connection, archive, MIDNIGHT, NOW))
    assert [(one.dataset, one.day, one.rows, one.why) for one in given] == [
        ("scores", DAY, 80, None),
        ("features", DAY, 40, None),
        ("transactions", DAY, 40, None),
    ]
    assert counts(connection) == {"transactions": 40, "features": 40, "scores": 80}, "those of the next day"
    assert list(give_up_days(connection, archive, MIDNIGHT, NOW)) == []
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == before


def test_a_day_that_is_not_archived_is_archived_before_it_is_given_up(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    assert all(one.why is None for one in give_up_days(connection, archive, MIDNIGHT, NOW))
    assert counts(connection) == {"transactions": 0, "features": 0, "scores": 0}
    assert {one.dataset: one.rows for one in read_days(connection)} == {
        "transactions": 40,
        "features": 40,
        "scores": 80,
    }


def test_a_day_whose_archive_cannot_be_written_stays(connection: Connection, tmp_path: Path) -> None:
    fill_day(connection)
    (tmp_path / "a file").write_text("no folder")
    given = list(give_up_days(connection, Archive(tmp_path / "a file", tmp_path / "work"), MIDNIGHT, NOW))
    assert len(given) == 3
    assert all("Not a directory" in str(one.why) for one in given)
    assert counts(connection) == {"transactions": 40, "features": 40, "scores": 80}


@pytest.mark.parametrize("fault", ["missing", "a bit", "another manifest"])
def test_a_day_whose_file_is_not_sound_stays_and_is_named(connection: Connection, archive: Archive, fault: str) -> None:
    fill_day(connection)
    archive_all(connection, archive)
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    file = Path(str(archive.file(manifest, TRANSACTIONS)))
    if fault == "missing":
        file.unlink()
    elif fault == "a bit":
        flip_a_bit(file)
    else:
        (file.parent / f"{DAY}.json").unlink()
    given = {one.dataset: one for one in give_up_days(connection, archive, MIDNIGHT, NOW)}
    assert "transactions of 2024-03-14" in str(given["transactions"].why)
    assert counts(connection) == {"transactions": 40, "features": 0, "scores": 0}
    if fault != "another manifest":
        assert "transactions of 2024-03-14" in archive_troubles(connection, NOW).texts[0]
    # It heals by being archived again, for the database has all of it.
    assert days_to_archive([DAY], read_days(connection)) == ([] if fault == "another manifest" else [DAY])
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert archive_troubles(connection, NOW).texts == []
    assert [one.why for one in give_up_days(connection, archive, MIDNIGHT, NOW)] == [None]


def test_what_lands_while_a_day_is_given_up_stays(
    database_url: str, connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_day(connection)
    archive_all(connection, archive)
    compare = archive_day.__globals__["content"]

    def then_something_lands(tables: object) -> object:
        found = compare(tables)
        with connect(database_url) as writer:
            fill_day(writer, rows=1, seed=2)
        monkeypatch.undo()
        return found

    monkeypatch.setattr("txwatch.archive.writing.content", then_something_lands)
    given = {one.dataset: one.why for one in give_up_days(connection, archive, MIDNIGHT, NOW)}
    assert given == {"scores": "it is in use", "features": None, "transactions": None}, "archived again, then given up"
    [again] = give_up_days(connection, archive, MIDNIGHT, NOW)
    assert (again.dataset, again.why) == ("scores", None)
    assert {one.dataset: one.rows for one in read_days(connection)} == {
        "transactions": 41,
        "features": 41,
        "scores": 82,
    }


def test_changed_rows_are_archived_again_before_they_are_given_up(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    archive_all(connection, archive)
    connection.execute("UPDATE transactions SET rbf = NOT rbf")
    why = {one.dataset: one.why for one in give_up_days(connection, archive, MIDNIGHT, NOW)}
    assert why["transactions"] == "transactions of 2024-03-14: the database no longer holds what was archived"
    assert why["features"] is None


def test_files_are_read_again_the_longest_unread_first(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    archive_all(connection, archive)
    manifest = archive.manifest(FEATURES, DAY)
    assert manifest is not None
    later = NOW + timedelta(hours=1)
    assert [(one.dataset, fault) for one, fault in check_files(connection, archive, later, manifest.bytes)] == [
        ("features", None)
    ]
    flip_a_bit(Path(str(archive.file(manifest, FEATURES))))
    found = {one.dataset: fault for one, fault in check_files(connection, archive, later)}
    assert found == {"transactions": None, "scores": None, "features": "features of 2024-03-14: its file is damaged"}
    assert not read_day(connection, FEATURES, DAY).complete  # type: ignore[union-attr]


def test_an_archive_is_adopted_by_a_database_that_does_not_know_it(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    before = {name: repr(rows(database_url, None, query)) for name, query in EVERYTHING.items()}
    for dataset in ARCHIVED.values():
        for day in DAY, NEXT:
            archive_day(connection, archive, dataset, day, NOW)
    # A backup of before: it has a part of the second day, and knows of no archive.
    empty_tables(connection, "archived_days")
    for dataset in ARCHIVED.values():
        connection.execute(f"DELETE FROM {dataset.table} WHERE seen_at < '2024-03-15T12:00Z'")  # type: ignore[arg-type] # noqa: S608
    assert len(adopt(connection, archive, NOW)) == 6
    assert adopt(connection, archive, NOW) == []
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == before
    assert days_to_archive([], read_days(connection)) == [NEXT]
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, NEXT, NOW)
    assert days_to_archive([], read_days(connection)) == []
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == before


def test_a_manifest_is_believed_of_its_own_day_alone(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    sound = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    place = Path(str(archive.folder(TRANSACTIONS, DAY))) / f"{DAY}.json"
    for lie in (
        {"file": "../../../elsewhere.parquet"},
        {"file": "/etc/passwd"},
        {"day": NEXT},
        {"dataset": "scores"},
        {"rows": -1},
        {"bytes": 2**62},
        {"sha256": f"{sound.sha256[:12]}/../../x"},
    ):
        place.write_bytes(msgspec.json.encode(msgspec.structs.replace(sound, **lie)))
        with pytest.raises(ArchiveError, match=r"2024-03-14\.json is (not the|no) manifest of"):
            archive.manifest(TRANSACTIONS, DAY)
    for content in (b"", b"[" * 5_000, b"\xff", b" " * (1 << 20) + msgspec.json.encode(sound)):
        place.write_bytes(content)
        with pytest.raises(ArchiveError, match="is no manifest of txwatch's"):
            archive.manifest(TRANSACTIONS, DAY)


def test_what_cannot_be_adopted_keeps_nothing_else_from_it(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    for day in DAY, NEXT:
        archive_day(connection, archive, TRANSACTIONS, day, NOW)
    empty_tables(connection, "archived_days")
    folder = Path(str(archive.folder(TRANSACTIONS, DAY)))
    (folder / "notes.json").write_text("somebody's")
    (folder / "2023-01-01.json").write_text("of another month")
    (folder / f"{DAY}.json").write_text("damaged")
    with pytest.raises(ArchiveError, match=r"2024-03-14\.json is no manifest .*; 1 others were adopted"):
        adopt(connection, archive, NOW)
    assert [one.day for one in read_days(connection)] == [NEXT]


def test_a_day_is_closed_once_it_is_over_recovered_and_scored(connection: Connection) -> None:
    fill_day(connection)
    noon = day_span(NEXT)[0] + timedelta(hours=12)
    assert closed_days(connection, noon)[0] == []
    [waiting] = closed_days(connection, noon)[1]
    assert (waiting.day, waiting.why) == (DAY, "not all of its windows are scored")
    connection.cursor().executemany(
        "INSERT INTO scored_windows (window_start, model_version) VALUES (%s, '1')",
        [(window,) for window in window_range(*day_span(DAY))],
    )
    assert closed_days(connection, noon) == ([DAY], [])
    assert closed_days(connection, day_span(NEXT)[0] + timedelta(hours=1)) == ([], []), "it may not have settled"
    note_late_windows(connection, [day_span(DAY)[0]], "landed late")
    assert closed_days(connection, noon)[1][0].why == "what landed late waits to be computed"
    connection.execute("DELETE FROM late_windows")
    end = day_span(DAY)[1]
    record_gaps(connection, [FeedGap(end - timedelta(minutes=1), end + timedelta(minutes=1), "test")])
    assert closed_days(connection, noon)[1][0].why == "a gap of the feed waits for recovery"
    assert closed_days(connection, noon + timedelta(days=2)) == ([DAY], []), "it may be recovered much later"
    connection.execute("UPDATE feed_gaps SET state = 'lost'")
    assert closed_days(connection, noon) == ([DAY], [])


def test_a_day_that_waits_for_long_is_named(connection: Connection) -> None:
    fill_day(connection)
    assert archive_troubles(connection, NOW).texts == []
    [text] = archive_troubles(connection, NOW + timedelta(days=3)).texts
    assert text == "not in the archive, and so kept in the database: 2024-03-14"
    for place, told in (Path("/archive"), [State.wrong]), (None, []):
        found = conditions(read_health(connection, Path("/"), NOW + timedelta(days=3), kept=Kept(90, place)), NOW)
        assert [one.state for one in found if one.name == "archive"] == told


def test_what_a_check_found_sound_is_not_read_whole_again_and_what_it_found_damaged_is(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_day(connection)
    manifest = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    file = Path(str(archive.file(manifest, TRANSACTIONS)))
    assert [fault for _, fault in check_files(connection, archive, NOW)] == [None]
    with monkeypatch.context() as patched:
        patched.setattr("txwatch.archive.reading.digest", lambda *_: pytest.fail("it is read again"))
        assert local_file(archive, TRANSACTIONS, manifest) == file
    seen = file.stat()
    flip_a_bit(file)
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # as a disk does that decays
    assert local_file(archive, TRANSACTIONS, manifest) == file, "nobody has read it since"
    assert [fault for _, fault in check_files(connection, archive, NOW)] == [
        "transactions of 2024-03-14: its file is damaged"
    ]
    with pytest.raises(ArchiveError, match="its file is damaged"):
        local_file(archive, TRANSACTIONS, manifest)


def test_a_sound_file_is_no_fault_where_that_cannot_be_noted(connection: Connection, archive: Archive) -> None:
    fill_day(connection)
    archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    archive.work.write_text("no folder")
    assert [fault for _, fault in check_files(connection, archive, NOW)] == [None]
