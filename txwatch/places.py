"""Where a file is: in a folder of this machine, or in S3. What reads and writes files takes either as a `Place`.

Belongs here: S3 by boto3, which is imported only where an s3:// address is used. Endpoint, region and credentials are
boto3's own business: it reads its variables (AWS_ENDPOINT_URL among them), its files, or the role of the host.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from txwatch.errors import UserError

SCHEME = "s3://"
RANGE_BYTES = 4 * 2**20
"""What is asked for at once of an object that is read as a stream."""
ATTEMPTS = 3
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "PreconditionFailed": "the object was replaced while it was read",
    "AccessDenied": "access is denied; are the credentials those of this bucket?",
    "403": "access is denied; are the credentials those of this bucket?",
}


class ObjectStoreError(UserError):
    """S3 did not do what it was asked to; the text names the address."""


class NoSuchObjectError(ObjectStoreError):
    """The bucket is there, the object is not."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object, or with a key that others begin with, what takes the place of their folder.

    Its methods are those of `Path`, and raise ObjectStoreError.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> "S3Object":
        return S3Object(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The end of the name with its point, such as `.gz`."""
        return PurePosixPath(self.key).suffix

    def is_file(self) -> bool:
        """Whether the object is there."""
        with _asking(self) as s3:
            # Unlike a HEAD of the object, it tells a bucket that is not there from an object that is not.
            found = s3.list_objects_v2(Bucket=self.bucket, Prefix=self.key, MaxKeys=1)
        return any(one["Key"] == self.key for one in found.get("Contents", []))

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """The object to read from, once and forwards. What cannot be read at all is known at once."""
        assert mode == "rb"  # noqa: S101 - its type says so
        reader: io.BufferedReader = io.BufferedReader(_Ranges(self), RANGE_BYTES)
        reader.peek(1)
        return reader

    def read_bytes(self) -> bytes:
        """The whole object."""
        with _asking(self) as s3:
            return bytes(s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read())

    def write_bytes(self, content: bytes, media_type: str = "application/octet-stream") -> None:
        """Write the object, which appears whole or not at all."""
        with _asking(self) as s3:
            s3.put_object(Bucket=self.bucket, Key=self.key, Body=content, ContentType=media_type)

    def upload(self, file: Path) -> None:
        """Write the object from a file, in parts if it is large; it appears whole or not at all."""
        with _asking(self) as s3:
            s3.upload_file(str(file), self.bucket, self.key)

    def iterdir(self) -> Iterator["S3Object"]:
        """The objects right below this one as a folder, in the order of their names."""
        prefix = f"{self.key.rstrip('/')}/".lstrip("/")
        with _asking(self) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return (S3Object(self.bucket, key) for key in keys)

    def unlink(self) -> None:
        """Remove the object. S3 does not tell whether it was there, and keeps older versions if the bucket does."""
        with _asking(self) as s3:
            s3.delete_object(Bucket=self.bucket, Key=self.key)


Place = Path | S3Object


def place(text: str | Path) -> Place:
    """The place that an address names: s3://bucket/key, or else a path. Raises ObjectStoreError."""
    if isinstance(text, Path) or not text.startswith(SCHEME):
        return Path(text)
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ObjectStoreError("An s3:// address names a bucket, and nothing else before the first slash.")
    return S3Object(bucket, key)


class _Ranges(io.RawIOBase):
    """Reads an object by ranges. No connection stays open between them, however long the reader takes."""

    def __init__(self, source: S3Object) -> None:
        self._source = source
        self._at = 0
        self._end: int | None = None
        self._etag: str | None = None

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(RANGE_BYTES) or b"", b""))

    def readinto(self, buffer: Any) -> int:
        if self._end is not None and self._at >= self._end:
            return 0
        wanted = f"bytes={self._at}-{self._at + len(buffer) - 1}"
        # A reader who was given one version of the object goes on with it or not at all.
        same = {} if self._etag is None else {"IfMatch": self._etag}
        with _asking(self._source) as s3:
            content = self._get(s3, Range=wanted, **same)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _get(self, s3: Any, **how: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = s3.get_object(Bucket=self._source.bucket, Key=self._source.key, **how)
                content = bytes(answer["Body"].read())
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":
                    return b""  # an empty object has no byte to begin with
                raise
            except BotoCoreError:  # boto3 asks again by itself, but not when the connection breaks within the body
                if attempt == ATTEMPTS:
                    raise
                continue
            self._etag = answer["ETag"]
            self._end = int(answer["ContentRange"].rpartition("/")[2])
            return content
        raise AssertionError("unreachable")


@lru_cache(maxsize=1)
def client() -> Any:
    """S3, as the environment of this process says; made once, for that takes half a second. Threads may share it."""
    from boto3.session import Session
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    return Session().client("s3", config=Config(connect_timeout=5, read_timeout=20, retries=retries))


@contextmanager
def _asking(address: S3Object) -> Iterator[Any]:
    """The client; what it raises is told as ObjectStoreError with this address."""
    try:
        import botocore.exceptions as of_botocore
        from boto3.exceptions import Boto3Error
    except ImportError:
        raise ObjectStoreError(f"{address} needs boto3, which is not installed: install txwatch[s3].") from None
    try:
        yield client()
    except of_botocore.ClientError as error:
        said = error.response.get("Error", {})
        kind = NoSuchObjectError if said.get("Code") == "NoSuchKey" else ObjectStoreError
        raise kind(f"{address}: {_MEANINGS.get(said.get('Code', '')) or _said(error)}") from error
    except (of_botocore.BotoCoreError, Boto3Error) as error:
        raise ObjectStoreError(f"{address}: {_said(error)}") from error
    except ValueError as error:  # what boto3 says of a region or an endpoint from which it can make no address
        raise ObjectStoreError(
            f"{address}: {_said(error)}; are AWS_DEFAULT_REGION and AWS_ENDPOINT_URL, where they are set, right?"
        ) from error


def _said(error: Exception) -> str:
    """What boto3 says, without a password that the endpoint's address may hold."""
    return re.sub(r"//[^/@\s]+@", "//", str(error))
