"""Record the feed to a capture, and replay a capture into the database."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

import msgspec

from txwatch.captures import CaptureError, read_capture
from txwatch.clock import Clock, MonotoneClock
from txwatch.errors import UserError
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.places import ObjectStoreError, Place, S3Object
from txwatch.sources.blockchain_info import NAME, BlockchainInfo, Received, told
from txwatch.sources.source import Disconnected, follow, reconnect_delays
from txwatch.store.database import Connection, database_now
from txwatch.waiting import run_until_signalled, wait_for_first

FLUSH_EVERY = timedelta(seconds=1)
BATCH_COUNT = 2_000
BATCH_BYTES = 16 << 20
"""Bounds of what a replay holds in memory."""
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class RecordingError(UserError):
    """A recording that cannot begin, or cannot be moved to S3."""


@dataclass
class Recorded:
    """What was recorded. `skipped` messages are not JSON objects, which a capture cannot hold."""

    messages: int = 0
    skipped: int = 0
    disconnects: int = 0


def capture_line(received: Received) -> bytes | None:
    """A message as a line of a capture, with `meta.received_at`; None if it is not a JSON object."""
    body = received.body.strip()
    try:
        parts = _object.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    meta = msgspec.json.encode({"received_at": received.seen_at})
    if parts and "meta" not in parts and b"\n" not in body:
        return body[:-1] + b',"meta":' + meta + b"}\n"
    parts["meta"] = msgspec.Raw(meta)
    # A raw line break can only stand between tokens: within JSON strings it is escaped.
    on_one_line = {key: msgspec.Raw(bytes(raw).translate(_BREAKS_TO_SPACES)) for key, raw in parts.items()}
    return msgspec.json.encode(on_one_line) + b"\n"


async def record(url: str, path: Path, stop: asyncio.Event, clock: Clock | None = None) -> Recorded:
    """Record to a new capture, gzipped if it ends in .gz, until `stop` is set. Raises RecordingError if it exists."""
    done = Recorded()
    with open_capture(path) as file:
        await wait_for_first(_record(url, file, clock or MonotoneClock(), done), stop.wait())
    return done


def record_until_signalled(url: str, path: Path, seconds: float | None) -> Recorded:
    """Record until SIGINT, SIGTERM, or `seconds` have passed."""

    async def work(stop: asyncio.Event) -> Recorded:
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, stop.set)
        return await record(url, path, stop)

    return run_until_signalled(work)


def file_to_record(place: Place, home: Path) -> Path:
    """The file to record to: `place` itself, or for S3 a file under `home`, because S3 takes whole objects only.

    Raises RecordingError, before anything is recorded, if the object exists or the bucket cannot be reached.
    """
    if isinstance(place, Path):
        return place
    if not place.key or place.key.endswith("/"):
        raise RecordingError(f"{place} names no object to record to: s3://bucket/name.jsonl.gz does")
    try:
        if place.is_file():
            raise RecordingError(f"{place} is there already; a recording does not write over another object")
    except ObjectStoreError as error:
        raise RecordingError(str(error)) from error
    folder = home.resolve() / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / quote(f"{place.bucket}/{place.key}", safe="")
    if file.exists():
        raise RecordingError(
            f"{file} holds a recording for {place} that is not there: unless it goes on, put it there or remove it"
        )
    return file


def put_recording(file: Path, place: S3Object) -> None:
    """Move a finished recording to S3. Raises RecordingError, and leaves the file, if that fails."""
    try:
        place.upload(file)
    except ObjectStoreError as error:
        raise RecordingError(f"The recording stays in {file}: {error}") from error
    file.unlink()


def open_capture(path: Path) -> BinaryIO:
    """A new capture to write to. Raises RecordingError if the file exists."""
    try:
        return cast(BinaryIO, gzip.open(path, "xb", compresslevel=6) if path.suffix == ".gz" else path.open("xb"))
    except FileExistsError:
        raise RecordingError(f"{path} is there already; a recording does not write over another file") from None


async def _record(url: str, file: BinaryIO, clock: Clock, done: Recorded) -> None:
    flushed = clock()
    source = BlockchainInfo(url, clock)
    async with aclosing(follow(source, reconnect_delays, source.messages)) as events:
        async for event in events:
            if isinstance(event, Received):
                line = capture_line(event)
                if line is None:
                    done.skipped += 1
                    continue
                done.messages += 1
                file.write(line)
                if event.seen_at - flushed > FLUSH_EVERY:
                    flushed = event.seen_at
                    file.flush()
            elif isinstance(event, Disconnected):
                done.disconnects += 1


def replay(connection: Connection, path: Place) -> int:
    """Land a capture as bulk, each message at the moment of its receipt. Returns the number of new transactions.

    A message without a moment gets that of the one before it. Raises CaptureError for a broken capture, after landing
    what comes before the fault.
    """
    landed = 0
    try:
        for batch in _batches(path):
            landed += commit(connection, batch, epoch=None, now=database_now(connection), live=False).new
    except CaptureError as error:
        raise CaptureError(f"{error}. What is before it is landed: {landed} new transactions.") from error
    return landed


def _batches(path: Place) -> Iterator[Batch]:
    """The capture in batches. Raises CaptureError after the last whole message."""
    recent = RecentTxids()
    moment = datetime.fromtimestamp(0, UTC)
    batch: Batch | None = None
    try:
        for captured in read_capture(path):
            moment = captured.received_at or moment
            batch = batch or Batch(moment, moment)
            batch.add(told(Received(moment, captured.message), "bulk"), NAME, recent)
            batch.seen_through = moment
            if batch.received >= BATCH_COUNT or batch.bytes >= BATCH_BYTES:
                yield batch
                batch = None
    except CaptureError:
        if batch is not None:
            yield batch
        raise
    if batch is not None:
        yield batch
