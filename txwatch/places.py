"""Places of files: paths of this machine, or objects in S3 with the same methods.

boto3 is imported only where an s3:// address is used. It finds endpoint, region and credentials by itself: in its
variables (AWS_ENDPOINT_URL among them), its files, or the role of the host.
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
"""Bytes of one request of an object that is read as a stream."""
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
    """A request to S3 failed; the message names the address."""


class NoSuchObjectError(ObjectStoreError):
    """There is no such object in the bucket."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object, or the folder of the objects whose keys begin with its key. Its methods raise ObjectStoreError."""

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
        with _requests(self) as s3:
            # Unlike a HEAD of the object, it tells a missing bucket from a missing object.
            found = s3.list_objects_v2(Bucket=self.bucket, Prefix=self.key, MaxKeys=1)
        return any(one["Key"] == self.key for one in found.get("Contents", []))

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """The object as a stream, to be read once and forwards. Fails at once if it cannot be read at all."""
        assert mode == "rb"  # noqa: S101 - its type says so
        reader: io.BufferedReader = io.BufferedReader(_Ranges(self), RANGE_BYTES)
        reader.peek(1)
        return reader

    def read_bytes(self) -> bytes:
        """The whole object."""
        with _requests(self) as s3:
            return bytes(s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read())

    def write_bytes(self, content: bytes, media_type: str = "application/octet-stream") -> None:
        """Write the object; it appears whole or not at all."""
        with _requests(self) as s3:
            s3.put_object(Bucket=self.bucket, Key=self.key, Body=content, ContentType=media_type)

    def upload(self, file: Path) -> None:
        """Write the object from a file, in parts if it is large; it appears whole or not at all."""
        with _requests(self) as s3:
            s3.upload_file(str(file), self.bucket, self.key)

    def iterdir(self) -> Iterator["S3Object"]:
        """The objects directly in this folder, in the order of their names."""
        prefix = f"{self.key.rstrip('/')}/".lstrip("/")
        with _requests(self) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return (S3Object(self.bucket, key) for key in keys)

    def folders(self) -> list[str]:
        """The names of the folders directly in this folder, in their order."""
        prefix = f"{self.key.rstrip('/')}/".lstrip("/")
        with _requests(self) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
        return [PurePosixPath(name).name for name in found]

    def unlink(self) -> None:
        """Remove the object, if it is there. A bucket with versions keeps the older ones."""
        with _requests(self) as s3:
            s3.delete_object(Bucket=self.bucket, Key=self.key)


Place = Path | S3Object


def place(text: str) -> Place:
    """The place that an address names: s3://bucket/key, or a path. Raises ObjectStoreError."""
    if not text.startswith(SCHEME):
        return Path(text)
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ObjectStoreError("An s3:// address names a bucket, and nothing else before the first slash.")
    return S3Object(bucket, key)


class _Ranges(io.RawIOBase):
    """Reads an object by ranges, and keeps no connection open between them, however long the reader takes."""

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
        # A stream is of one version of the object, or fails.
        same_version = {} if self._etag is None else {"IfMatch": self._etag}
        with _requests(self._source) as s3:
            content = self._get(s3, len(buffer), Range=f"bytes={self._at}-{self._at + len(buffer) - 1}", **same_version)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _get(self, s3: Any, most: int, **options: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = s3.get_object(Bucket=self._source.bucket, Key=self._source.key, **options)
                # What answers may be no S3, and say more than it was asked for.
                content = bytes(answer["Body"].read(most))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":
                    return b""  # the object is empty
                raise
            except BotoCoreError:  # boto3 retries, but not when the connection breaks within the body
                if attempt == ATTEMPTS:
                    raise
                continue
            end = str(answer.get("ContentRange", "")).rpartition("/")[2]
            if not end.isdecimal() or "ETag" not in answer:
                raise ObjectStoreError(f"{self._source}: what answers is no S3: it gives no part of an object")
            self._etag, self._end = answer["ETag"], int(end)
            return content
        raise AssertionError("unreachable")


@lru_cache(maxsize=1)
def client() -> Any:
    """The S3 client of this process; made once, which takes half a second. Threads may share it."""
    from boto3.session import Session
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    return Session().client("s3", config=Config(connect_timeout=5, read_timeout=20, retries=retries))


@contextmanager
def _requests(address: S3Object) -> Iterator[Any]:
    """The client; its errors become ObjectStoreError with this address."""
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
        raise kind(f"{address}: {_MEANINGS.get(said.get('Code', '')) or _message(error)}") from error
    except (of_botocore.BotoCoreError, Boto3Error) as error:
        raise ObjectStoreError(f"{address}: {_message(error)}") from error
    except ValueError as error:  # boto3 cannot make an address of the region or the endpoint
        raise ObjectStoreError(
            f"{address}: {_message(error)}; are AWS_DEFAULT_REGION and AWS_ENDPOINT_URL, where they are set, right?"
        ) from error


def _message(error: Exception) -> str:
    """The message of an error, without a password in the endpoint's address."""
    return re.sub(r"//[^/@\s]+@", "//", str(error))
