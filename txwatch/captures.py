"""Read captures: JSON Lines, optionally gzipped, one feed message a line with an optional sibling key `meta`."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from txwatch.errors import UserError
from txwatch.places import ObjectStoreError, Place

MAX_LINE_BYTES = 17 << 20
"""Bytes; a message of the feed has at most 16 MiB, and a line from a small gzip file could fill the memory."""
_FIRST_MOMENT = datetime(2009, 1, 3, tzinfo=UTC)
_LAST_MOMENT = datetime(2100, 1, 1, tzinfo=UTC)
"""From the first block until what can only be a broken clock; other moments are refused."""


class CaptureError(UserError, ValueError):
    """A capture, or a line of one, that cannot be read; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """One line of a capture. `message` is what the feed sends: the line without `meta`."""

    message: bytes
    meta: dict[str, Any] = field(default_factory=dict)
    received_at: datetime | None = None
    """UTC: `meta.received_at`, else the message's own `time`, else None."""

    @property
    def labels(self) -> list[str]:
        """What is known about the transaction, such as `coinjoin:whirlpool`."""
        return list(self.meta.get("labels") or [])


class _Body(msgspec.Struct):
    time: int | None = None


class _Times(msgspec.Struct):
    x: _Body | None = None


_line = msgspec.json.Decoder(dict[str, msgspec.Raw])
_meta = msgspec.json.Decoder(dict[str, Any])
_times = msgspec.json.Decoder(_Times)


def existing_capture(place: Place) -> Place:
    """The place, if a file is there. Raises CaptureError."""
    try:
        if place.is_file():
            return place
    except ObjectStoreError as error:
        raise CaptureError(str(error)) from error
    raise CaptureError(f"There is no capture at {place}.")


def read_capture(path: Place) -> Iterator[CapturedMessage]:
    """Stream the messages of a capture in the order of the file; empty lines are skipped.

    Raises CaptureError for a line that is not a JSON object, is longer than MAX_LINE_BYTES or has an invalid `meta`,
    for a gzip file that is cut (after its last whole line), and when S3 fails; OSError if a local file cannot be read.
    """
    number = 1
    try:
        with path.open("rb") as stored:
            file = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError(f"longer than {MAX_LINE_BYTES >> 20} MiB, which no message is")
                if stripped := line.strip():
                    yield parse_line(stripped)
                number += 1
    except ObjectStoreError as error:
        raise CaptureError(str(error)) from error
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CaptureError(f"{path}, line {number}: {error}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CaptureError(f"{path}, line {number}: the gzip file is broken: {error}") from error


def parse_line(line: bytes) -> CapturedMessage:
    """Split one line into message and meta. Raises ValueError or msgspec's errors, which `read_capture` explains."""
    line.decode()  # raw parts are not checked, and a WebSocket text message must be valid UTF-8
    parts = _line.decode(line)
    raw_meta = parts.pop("meta", None)
    if raw_meta is None:
        return CapturedMessage(line, received_at=_feed_time(line))
    meta = _meta.decode(raw_meta)
    labels = meta.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("meta.labels is not a list of strings")
    received_at = _moment(meta["received_at"]) if meta.get("received_at") is not None else _feed_time(line)
    return CapturedMessage(msgspec.json.encode(parts), meta, received_at)


def _feed_time(line: bytes) -> datetime | None:
    try:
        body = _times.decode(line).x
        return None if body is None or body.time is None else _moment(body.time)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None  # a malformed message goes to the quarantine later


def _moment(value: object) -> datetime:
    """An ISO 8601 text (UTC unless it says otherwise) or Unix seconds. Raises ValueError or OverflowError."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if _FIRST_MOMENT <= moment < _LAST_MOMENT:
            return moment
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if _FIRST_MOMENT.timestamp() <= value < _LAST_MOMENT.timestamp():
            return datetime.fromtimestamp(value, UTC)
    else:
        raise ValueError(f"meta.received_at is neither a time nor a number: {value!r}")
    raise ValueError(f"meta.received_at is {value!r}: no message was received then")
