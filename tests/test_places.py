"""A file may be in a folder or in S3; what S3 does not do is said with the address, and without credentials."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.buckets import KEY, SECRET, environment_of, s3_server, using_s3
from tests.ports import free_port
from txwatch import places
from txwatch.places import NoSuchObjectError, ObjectStoreError, S3Object, place


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server with one bucket, which this process uses."""
    with s3_server("captures") as client, using_s3(environment_of(client)):
        yield client


def stored(key: str) -> S3Object:
    return S3Object("captures", key)


def test_an_address_is_a_path_or_an_object() -> None:
    assert place("captures/a.jsonl.gz") == Path("captures/a.jsonl.gz")
    one = place("s3://captures/2026/a.jsonl.gz")
    assert one == S3Object("captures", "2026/a.jsonl.gz")
    assert (one.name, one.suffix, str(one)) == ("a.jsonl.gz", ".gz", "s3://captures/2026/a.jsonl.gz")
    for folder in ("s3://captures/drift", "s3://captures/drift/"):
        assert str(place(folder) / "a.html") == "s3://captures/drift/a.html"
    assert str(place("s3://captures") / "a.html") == "s3://captures/a.html"


@pytest.mark.parametrize("address", ["s3://", "s3:///a", "s3://key:sesame@captures/a", "s3://Captures/a", "s3://a..b?"])
def test_what_names_no_bucket_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ObjectStoreError, match="names a bucket") as refused:
        place(address)
    assert "sesame" not in str(refused.value)


@pytest.mark.usefixtures("s3")
def test_an_object_is_read_by_ranges_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RANGE_BYTES", 1_000)
    content = os.urandom(10_001)
    stored("random").write_bytes(content)
    with stored("random").open() as stream:
        assert stream.read(10) + stream.read(3_000) + stream.read() == content
    assert stored("random").read_bytes() == content
    stored("empty").write_bytes(b"")
    assert stored("empty").open().read() == b""
    assert stored("random").is_file()
    assert not stored("rand").is_file()


@pytest.mark.usefixtures("s3")
def test_an_object_that_is_replaced_is_not_read_as_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RANGE_BYTES", 1_000)
    stored("changing").write_bytes(b"a" * 5_000)
    with stored("changing").open() as stream:
        assert stream.read(1_000) == b"a" * 1_000
        stored("changing").write_bytes(b"b" * 5_000)
        with pytest.raises(ObjectStoreError, match="s3://captures/changing: the object was replaced"):
            stream.read()


@pytest.mark.usefixtures("s3")
def test_only_what_is_right_below_is_listed_and_removing_is_repeatable() -> None:
    for name in ("list/b", "list/a", "list/deeper/c", "listed"):
        stored(name).write_bytes(b"x")
    assert [one.name for one in stored("list").iterdir()] == ["a", "b"]
    for _ in range(2):
        stored("list/a").unlink()
    assert [str(one) for one in stored("list/").iterdir()] == ["s3://captures/list/b"]


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    "ask",
    [
        S3Object.is_file,
        S3Object.open,
        S3Object.read_bytes,
        S3Object.iterdir,
        S3Object.unlink,
        lambda one: one.write_bytes(b""),
        lambda one: one.upload(Path(__file__)),
    ],
)
def test_a_missing_bucket_is_named_whatever_is_asked(ask: Callable[[S3Object], object]) -> None:
    with pytest.raises(ObjectStoreError, match=r"s3://nowhere/a: .*bucket"):
        ask(S3Object("nowhere", "a"))


@pytest.mark.usefixtures("s3")
def test_a_missing_object_is_named() -> None:
    for read in (S3Object.open, S3Object.read_bytes):
        with pytest.raises(NoSuchObjectError, match="s3://captures/gone: there is no such object"):
            read(stored("gone"))


@pytest.mark.parametrize(
    "changed", [{"AWS_ENDPOINT_URL": f"http://u:{SECRET}@127.0.0.1:{free_port()}"}, {"AWS_ENDPOINT_URL": "x"}]
)
def test_a_server_that_cannot_be_reached_is_said_without_credentials(s3: Any, changed: dict[str, str]) -> None:
    with using_s3(environment_of(s3) | changed), pytest.raises(ObjectStoreError, match="endpoint") as failed:
        stored("a").is_file()
    assert "s3://captures/a: " in str(failed.value)
    assert KEY not in str(failed.value)
    assert SECRET not in str(failed.value)
    assert SECRET not in repr(places.client())


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    with pytest.raises(ObjectStoreError, match=r"s3://captures/a needs boto3.*install txwatch\[s3\]"):
        stored("a").is_file()
