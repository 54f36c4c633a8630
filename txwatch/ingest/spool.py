"""The spool: batches on disk that wait for the database. Ordered, bounded, and adopted when orphaned.

Each worker has a folder of its own under one root, and holds a lock on it, which the kernel releases however the worker
ends. A batch is one file, named for the stretch that it covers, complete or not there at all.
"""

import fcntl
import os
import re
import secrets
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from txwatch.clock import EPOCH, MICROSECOND
from txwatch.ingest.batch import Batch

log = structlog.get_logger(__name__)

MAX_BYTES = 1 << 30
_NAME = re.compile(r"(\d{18})-(\d{18})\.batch")
_LOCK = "lock"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class SpoolFullError(OSError):
    """The spool cannot take another batch; the message says how much it holds, and what to do."""


class UnreadableBatchError(ValueError):
    """A spooled batch, from `seen_from` until `seen_through`, that cannot be read. Its file is kept."""

    def __init__(self, path: Path, seen_from: datetime, seen_through: datetime, cause: Exception) -> None:
        super().__init__(f"{path} cannot be read: {cause}")
        self.seen_from = seen_from
        self.seen_through = seen_through


class Spool:
    """One worker's part of the spool under `root`, with adopted batches. Safe to use from several threads."""

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._own: Path | None = None
        self._locks: dict[Path, int] = {}
        self._sizes: dict[Path, int] = {}
        self._guard = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no batch waits."""
        return not self._sizes

    @property
    def bytes(self) -> int:
        """Size of all batches, in bytes on disk."""
        return sum(self._sizes.values())

    def append(self, batch: Batch) -> None:
        """Write a batch, durably. Raises SpoolFullError when the bound is reached or the disk takes no more."""
        data = _encode(batch)
        with self._guard:
            if self.bytes + len(data) > self._max_bytes:
                raise SpoolFullError(
                    f"the spool under {self._root} holds {self.bytes:,} of at most {self._max_bytes:,} bytes:"
                    " bring the database back, or raise TXWATCH_SPOOL_MB"
                )
            try:
                folder = self._own_folder()
                path = folder / f"{_microseconds(batch.seen_from):018}-{_microseconds(batch.seen_through):018}.batch"
                _write_durably(path, data)
            except OSError as error:
                raise SpoolFullError(f"the spool under {self._root} takes no more: {error}") from error
            self._sizes[path] = len(data)

    def first(self) -> tuple[Path, Batch] | None:
        """The oldest batch. If it cannot be read, sets it aside and raises UnreadableBatchError."""
        with self._guard:
            path = min(self._sizes, key=lambda p: p.name, default=None)
        if path is None:
            return None
        try:
            return path, _decode(path.read_bytes())
        except (msgspec.MsgspecError, UnicodeError, OSError) as error:
            self.set_aside(path)
            raise UnreadableBatchError(path, *_stretch(path), error) from error

    def remove(self, path: Path) -> None:
        """Remove a batch that has been landed. One that stays is landed again by the next worker, to no effect."""
        self._sizes.pop(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("spooled_batch_stays", path=str(path), cause=str(error))

    def set_aside(self, path: Path) -> None:
        """Rename the file of a batch that cannot be landed, so that it holds up no other."""
        self._sizes.pop(path)
        with suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))

    def adopt_orphans(self) -> int:
        """Take over the batches of workers that have ended. Returns their number."""
        adopted = 0
        for folder in _folders(self._root):
            if folder not in self._locks and self._lock(folder):
                waiting = {path: path.stat().st_size for path in _batches(folder)}
                with self._guard:
                    self._sizes |= waiting
                adopted += len(waiting)
        return adopted

    def heard_through(self, moment: datetime) -> datetime:
        """How far the batches of other workers go on from a moment, until which all is landed, without a hole.

        A worker hears all from its first batch to its last. Its own batches say nothing of what came before it.
        """
        folders = [folder for folder in _folders(self._root) if folder != self._own]
        covered = [[_stretch(path) for path in _batches(folder)] for folder in folders]
        for stretches in sorted(filter(None, covered), key=min):
            if min(stretches)[0] <= moment:
                moment = max(moment, *(through for _, through in stretches))
        return moment

    def close(self) -> None:
        """Release the folders, for the next worker to adopt; empty ones are removed."""
        for folder, descriptor in self._locks.items():
            with suppress(OSError):
                if [path.name for path in folder.iterdir()] == [_LOCK]:
                    (folder / _LOCK).unlink()
                    folder.rmdir()
            os.close(descriptor)
        self._locks.clear()
        self._own = None

    def _own_folder(self) -> Path:
        if self._own is None or not self._own.exists():
            folder = self._root / f"{os.getpid()}-{secrets.token_hex(4)}"
            # Hidden until it is locked: no other worker may adopt it before.
            hidden = folder.with_name(f".{folder.name}")
            hidden.mkdir(parents=True)
            self._lock(hidden)
            hidden.rename(folder)
            self._locks[folder] = self._locks.pop(hidden)
            self._own = folder
        return self._own

    def _lock(self, folder: Path) -> bool:
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False  # its owner has just removed the folder, or it is another user's
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks[folder] = descriptor
        return True


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _batches(folder: Path) -> list[Path]:
    """The batches in a folder; none if it cannot be read, because it was removed meanwhile or is another user's."""
    try:
        return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError as error:
        log.warning("spool_not_read", folder=str(folder), cause=str(error))
        return []


def _write_durably(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stretch(path: Path) -> tuple[datetime, datetime]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not named like a spooled batch")
    start, end = (EPOCH + int(part) * MICROSECOND for part in match.groups())
    return start, end


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND
