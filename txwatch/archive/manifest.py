"""The files of an archive: of each dataset and day one Parquet file, and a manifest that names it.

    transactions/2024-03/2024-03-14.json                     the manifest
    transactions/2024-03/2024-03-14-0a1b2c3d4e5f.parquet     the file, with the beginning of its SHA-256 in its name

A file is complete before its manifest names it, and is never changed. So whoever is killed, or finds the disk full,
leaves what the manifest named before; what no manifest names is nothing.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from txwatch.errors import UserError
from txwatch.places import NoSuchObjectError, Place, S3Object
from txwatch.settings import Settings

if TYPE_CHECKING:
    from txwatch.archive.checksum import Content
    from txwatch.archive.datasets import Dataset

READ_BYTES = 1 << 20
MANIFEST_BYTES = 64 << 10
"""Bytes of a manifest at most; it has some hundreds."""


class ArchiveError(UserError):
    """A day cannot be archived, or its file cannot be read. The message names dataset and day."""


_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""As a column of the database takes it."""
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class Manifest(msgspec.Struct, frozen=True):
    """What the archive holds of a dataset and day. Others may write where it is: it is believed of its own day alone.

    `rows` and `checksum` are of the file, `stored_rows` and `stored_checksum` of the database when it was archived:
    the same but where the file kept rows that the database had given up already.
    """

    dataset: str
    day: date
    format: Annotated[int, Meta(ge=1, lt=2**31)]
    file: str
    bytes: Annotated[int, Meta(ge=0, lt=2**36)]
    sha256: _Digest
    rows: _Number
    checksum: Annotated[str, Meta(max_length=200)]
    stored_rows: _Number
    stored_checksum: Annotated[str, Meta(max_length=200)]
    archived_at: datetime

    def holds(self, stored: "Content") -> bool:
        """Whether rows of the database are those from which the file was made."""
        return (stored.rows, stored.checksum) == (self.stored_rows, self.stored_checksum)


def file_name(day: date, sha256: str) -> str:
    """The name of a day's file with this content."""
    return f"{day}-{sha256[:12]}.parquet"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Manifest).decode


@dataclass(frozen=True)
class Archive:
    """An archive in a folder or in S3. What goes wrong with a bucket raises ObjectStoreError, with a disk OSError.

    `work` is a folder of this machine for files that are not in S3 yet, and for those that were fetched from there.
    """

    place: Place
    work: Path

    def reach(self) -> None:
        """Look whether the archive can be reached; make its folder if there is none yet."""
        if isinstance(self.place, Path):
            self.place.mkdir(parents=True, exist_ok=True)
        _names(self.place)

    def folder(self, dataset: "Dataset", day: date) -> Place:
        """Where the files of a day are."""
        return self.place / dataset.name / f"{day:%Y-%m}"

    def manifest(self, dataset: "Dataset", day: date) -> Manifest | None:
        """The manifest of a day, None if it is not archived. Raises ArchiveError if it cannot be read."""
        place = self.folder(dataset, day) / f"{day}.json"
        try:
            with place.open("rb") as file:
                found = _decode(file.read(MANIFEST_BYTES))
        except (FileNotFoundError, NoSuchObjectError):
            return None
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ArchiveError(f"{place} is no manifest of txwatch's: {error}") from error
        # A name of its own could lead anywhere, and that of another day's file would tell its rows twice.
        if (found.dataset, found.day, found.file) != (dataset.name, day, file_name(day, found.sha256)):
            raise ArchiveError(f"{place} is not the manifest of {dataset.name} of {day}")
        return found

    def days(self, dataset: "Dataset") -> Iterator[date]:
        """The days of which there is a manifest, the oldest first."""
        top = self.place / dataset.name
        for month in sorted(_names_below(top)):
            for name in sorted(name for name in _names(top / month) if name.endswith(".json")):
                with suppress(ValueError):
                    day = date.fromisoformat(name.removesuffix(".json"))
                    if f"{day:%Y-%m}/{day}.json" == f"{month}/{name}":
                        yield day

    def draft(self, dataset: "Dataset", day: date) -> Path:
        """The file to write a day to, before it is published: beside its place, or in `work` for S3."""
        folder = self.folder(dataset, day)
        local = folder if isinstance(folder, Path) else self.work / dataset.name
        local.mkdir(parents=True, exist_ok=True)
        return local / f"{day}.part"

    def publish(self, dataset: "Dataset", day: date, draft: Path, sha256: str) -> Place:
        """Put a complete draft under its own name, durably. No manifest names it yet."""
        published = self.folder(dataset, day) / file_name(day, sha256)
        if isinstance(published, S3Object):
            published.upload(draft)
            draft.unlink()
        else:
            draft.replace(published)
            _sync_folder(published.parent)
        return published

    def name(self, manifest: Manifest, dataset: "Dataset") -> Place:
        """Write a manifest: from here on it is what the archive holds of the day."""
        return write_whole(self.folder(dataset, manifest.day) / f"{manifest.day}.json", _encode(manifest))

    def file(self, manifest: Manifest, dataset: "Dataset") -> Place:
        """The file that a manifest names."""
        return self.folder(dataset, manifest.day) / manifest.file

    def forget_unnamed(self, dataset: "Dataset", day: date, named: str | None) -> None:
        """Remove the files of a day that its manifest does not name: of a run that was killed, or from before the last.

        One generation is kept while nothing new is written, for whoever reads it just now.
        """
        folder = self.folder(dataset, day)
        for name in _names(folder):
            if name.startswith(f"{day}-") and name != named:
                (folder / name).unlink()

    def remove(self, dataset: "Dataset", day: date) -> None:
        """Take a day out, its manifest first: no manifest may name a file that is gone. Safe to repeat."""
        folder, copies = self.folder(dataset, day), self.work / dataset.name
        names = [name for name in _names(folder) if name.startswith(f"{day}-")]
        for name in [f"{day}.json"] * (f"{day}.json" in _names(folder)) + names:
            (folder / name).unlink()
        for name in _names(copies):
            if name.startswith(f"{day}-"):
                (copies / name).unlink(missing_ok=True)
        if isinstance(folder, Path):
            with suppress(OSError):  # it holds other days, or was never there
                folder.rmdir()


def archive_of(settings: Settings) -> Archive | None:
    """The archive of these settings, None without one. Raises ObjectStoreError if TXWATCH_ARCHIVE names no bucket."""
    where = settings.archive_place
    return None if where is None else Archive(where, settings.home.resolve() / "archive-files")


def digest(place: Place, most_bytes: int | None = None) -> tuple[int, str]:
    """The bytes of a file and their SHA-256, read as a stream, no further than where it has more than `most_bytes`."""
    sha, size = hashlib.sha256(), 0
    with place.open("rb") as file:
        while (most_bytes is None or size <= most_bytes) and (block := file.read(READ_BYTES)):
            sha.update(block)
            size += len(block)
    return size, sha.hexdigest()


def write_whole(place: Place, document: bytes) -> Place:
    """Write a JSON document, durably: it appears whole or not at all."""
    if isinstance(place, S3Object):
        place.write_bytes(document, "application/json")
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(".json.part")
    with draft.open("wb") as file:
        file.write(document)
        sync(file)
    draft.replace(place)
    _sync_folder(place.parent)
    return place


def sync(file: IO[bytes]) -> None:
    """Wait until what was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Place) -> list[str]:
    """The names of the files in a folder, none if there is no such folder."""
    if isinstance(folder, Path):
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [found.name for found in folder.iterdir()]


def _names_below(folder: Place) -> list[str]:
    """The names of the folders in a folder."""
    return _names(folder) if isinstance(folder, Path) else folder.folders()
