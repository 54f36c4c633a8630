"""An archive in a bucket is the same archive; its files are fetched once, and compared as they come."""

import hashlib
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.answering import answering
from tests.archive.filled import DAY, NEXT, fill_day
from tests.archive.test_query import EVERYTHING, give_up, rows, rows_and_notes
from tests.archive.test_writing import NOW
from tests.buckets import environment_at, environment_of, s3_server, using_s3
from tests.databases import empty_tables
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.manifest import Archive, ArchiveError, archive_of
from txwatch.archive.upkeep import adopt, check_files, give_up_days
from txwatch.archive.writing import archive_day
from txwatch.places import ObjectStoreError, place
from txwatch.settings import Settings
from txwatch.store.database import Connection

BUCKET = "days"


@pytest.fixture
def s3() -> Iterator[Any]:
    with s3_server(BUCKET) as client, using_s3(environment_of(client)):
        yield client


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(place(f"s3://{BUCKET}/txwatch"), tmp_path / "work")


def keys(s3: Any) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_days_are_archived_read_checked_given_up_and_adopted(
    s3: Any, database_url: str, connection: Connection, archive: Archive
) -> None:
    fill_day(connection)
    fill_day(connection, NEXT)
    before = {name: repr(rows(database_url, None, query)) for name, query in EVERYTHING.items()}
    manifests = [archive_day(connection, archive, dataset, DAY, NOW) for dataset in ARCHIVED.values()]
    folder = f"{DAY:%Y-%m}"
    assert sorted(keys(s3)) == sorted(
        f"txwatch/{one.dataset}/{folder}/{name}" for one in manifests for name in (one.file, f"{DAY}.json")
    )
    assert [fault for _, fault in check_files(connection, archive, NOW)] == [None, None, None]
    assert [one.why for one in give_up_days(connection, archive, NOW.replace(day=15), NOW)] == [None, None, None]
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == before
    empty_tables(connection, "archived_days")
    assert [day for _, day in adopt(connection, archive, NOW)] == [DAY, DAY, DAY]
    assert {name: repr(rows(database_url, archive, query)) for name, query in EVERYTHING.items()} == before


def test_a_manifest_of_somebody_else_leads_to_no_file_of_this_machine(
    s3: Any, connection: Connection, archive: Archive, tmp_path: Path
) -> None:
    fill_day(connection)
    sound = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    content, key = b"somebody's", f"txwatch/transactions/2024-03/{DAY}.json"
    lie = msgspec.structs.replace(
        sound, file="../../../planted", bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    s3.put_object(Bucket=BUCKET, Key=key, Body=msgspec.json.encode(lie))
    s3.put_object(Bucket=BUCKET, Key=f"txwatch/transactions/2024-03/{lie.file}", Body=content)
    with pytest.raises(ArchiveError, match="is not the manifest of transactions of 2024-03-14"):
        archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    assert not list(tmp_path.rglob("planted"))


def test_what_answers_and_is_no_s3_is_named_and_read_no_further_than_asked(tmp_path: Path) -> None:
    """It gives the whole, without an end, of whatever a part is asked of."""
    with answering(200, {}, lambda: repeat(b"x" * 65_536)) as url, using_s3(environment_at(url)):
        archive = Archive(place(f"s3://{BUCKET}/txwatch"), tmp_path / "work")
        with pytest.raises(ObjectStoreError, match="is no S3"):
            archive.manifest(TRANSACTIONS, DAY)


def test_an_object_that_is_not_what_was_written_is_named(
    s3: Any, database_url: str, connection: Connection, archive: Archive
) -> None:
    fill_day(connection)
    manifest = archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
    give_up(connection, DAY)
    key = f"txwatch/transactions/2024-03/{manifest.file}"
    sound = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    counted = "SELECT count(*) AS n FROM transactions"
    for body in (sound[:-1], sound[:1000] + b"\0" + sound[1001:], None):
        if body is None:
            s3.delete_object(Bucket=BUCKET, Key=key)
        else:
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        found, [note] = rows_and_notes(database_url, archive, counted)
        assert found == [{"n": 0}]
        assert note.startswith("transactions of 2024-03-14: its file ")
    s3.put_object(Bucket=BUCKET, Key=key, Body=sound)
    assert rows_and_notes(database_url, archive, counted) == ([{"n": 40}], [])
    s3.delete_object(Bucket=BUCKET, Key=key)
    assert rows_and_notes(database_url, archive, counted) == ([{"n": 40}], []), "it was fetched"


def test_fetched_files_are_bounded(
    s3: Any, database_url: str, connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert s3
    monkeypatch.setattr("txwatch.archive.reading.FETCHED_BYTES", 1)
    gone = archive.work / "transactions" / "that-another-process-removed-just-now.parquet"
    gone.parent.mkdir(parents=True)
    gone.symlink_to("nowhere")
    for day in DAY, NEXT:
        fill_day(connection, day)
        archive_day(connection, archive, TRANSACTIONS, day, NOW)
        counted = "SELECT count(*) AS n FROM transactions"
        assert rows(database_url, archive, counted, since=day, until=day) == [{"n": 40}]
    gone.unlink()
    assert [path.name[:10] for path in archive.work.rglob("*.parquet")] == [NEXT.isoformat()]


def test_a_bucket_that_is_not_there_loses_nothing(s3: Any, connection: Connection, tmp_path: Path) -> None:
    assert s3
    fill_day(connection)
    nowhere = Archive(place("s3://nowhere/txwatch"), tmp_path / "work")
    with pytest.raises((ArchiveError, ObjectStoreError), match="there is no such bucket"):
        archive_day(connection, nowhere, TRANSACTIONS, DAY, NOW)
    given = list(give_up_days(connection, nowhere, NOW.replace(day=15), NOW))
    assert all("there is no such bucket" in str(one.why) for one in given)


def test_the_setting_names_a_folder_or_a_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path))
    monkeypatch.setenv("TXWATCH_ARCHIVE", "s3://days/txwatch")
    assert archive_of(Settings()) == Archive(place("s3://days/txwatch"), tmp_path / "archive-files")
    monkeypatch.setenv("TXWATCH_ARCHIVE", str(tmp_path / "archive"))
    assert archive_of(Settings()) == Archive(tmp_path / "archive", tmp_path / "archive-files")
    monkeypatch.setenv("TXWATCH_ARCHIVE", "s3://NOT A BUCKET")
    with pytest.raises(ObjectStoreError, match="names a bucket"):
        archive_of(Settings())
    monkeypatch.delenv("TXWATCH_ARCHIVE")
    assert archive_of(Settings()) is None
