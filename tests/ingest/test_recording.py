"""A recording holds what the feed sent, and replaying it gives the rows of that time."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from msgspec import structs

from tests.builders import utx
from tests.databases import empty_tables
from tests.ingest.feed_server import Stage, scripted_feed
from tests.ingest.following import following, has_landed, landed, query, until, utxs
from txwatch.captures import CaptureError, read_capture
from txwatch.ingest.recording import RecordingError, capture_line, record, replay
from txwatch.sources.blockchain_info import Received
from txwatch.store.database import connect

pytestmark = pytest.mark.anyio

T0 = datetime(2024, 3, 14, 12, 0, 0, 123_456, tzinfo=UTC)
MESSAGES = [*utxs(0, 40), utx(size=1), b'{"op":"pong"}', b'{"op":"status","msg":"hello"}', *utxs(30, 60)]


async def say(stage: Stage) -> None:
    await stage.send(*MESSAGES[:20], "no JSON", *MESSAGES[20:])


async def play(stage: Stage) -> None:
    await say(stage)
    await stage.stay()


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
async def test_a_recording_holds_each_message_as_it_came(tmp_path: Path, name: str) -> None:
    stop = asyncio.Event()

    async def play_and_stop(stage: Stage) -> None:
        await say(stage)
        await (await stage.websocket.ping())  # answered: all that was sent before has arrived
        stop.set()
        await stage.stay()

    async with scripted_feed(play_and_stop) as feed:
        done = await record(feed.url, tmp_path / name, stop)
    assert (done.messages, done.skipped, done.disconnects) == (len(MESSAGES), 1, 0)
    captured = list(read_capture(tmp_path / name))
    assert [c.message.replace(b" ", b"") for c in captured] == [m.replace(b" ", b"") for m in MESSAGES]
    moments = [c.received_at for c in captured if c.received_at]
    assert moments == sorted(moments)
    assert len(moments) == len(MESSAGES)
    with pytest.raises(RecordingError, match="is there already"):
        await record(feed.url, tmp_path / name, stop)


async def test_a_replay_gives_the_rows_of_the_feed_at_any_speed(fresh: str, tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for n, message in enumerate(MESSAGES):
            file.write(capture_line(Received(T0 + n * timedelta(seconds=1), message)) or b"")
    async with scripted_feed(play) as feed, following(fresh, feed.url, tmp_path / "spool"):
        await until(has_landed(fresh, 60))
    by_feed = landed(fresh)
    with connect(fresh) as connection:
        empty_tables(connection, "transactions, quarantined_messages, late_windows")
        counted = query(fresh, "SELECT received, duplicates, ignored FROM ingest_lease")
        assert replay(connection, path) == 60
        assert replay(connection, path) == 0, "and again, nothing"
    by_replay = landed(fresh)
    assert {txid: structs.replace(tx, source="feed") for txid, tx in by_replay.items()} == by_feed
    assert query(fresh, "SELECT DISTINCT source FROM transactions") == [("bulk",)]
    assert query(fresh, "SELECT min(seen_at), max(seen_at) FROM transactions") == [
        (T0, T0 + (len(MESSAGES) - 1) * timedelta(seconds=1))
    ]
    assert query(fresh, "SELECT count(*) FROM quarantined_messages") == [(1,)]
    assert query(fresh, "SELECT received, duplicates, ignored FROM ingest_lease") == counted


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"op":"x"}', b'{"op":"x","meta":{"received_at":"2024-03-14T12:00:00.123456Z"}}\n'),
        (b'{\n "op": "x"\n}', b'{"op":"x","meta":{"received_at":"2024-03-14T12:00:00.123456Z"}}\n'),
        (b'{"meta":1,"op":"x"}', b'{"meta":{"received_at":"2024-03-14T12:00:00.123456Z"},"op":"x"}\n'),
        (b"{}", b'{"meta":{"received_at":"2024-03-14T12:00:00.123456Z"}}\n'),
        (b"[1]", None),
        (b"\xff", None),
    ],
)
def test_a_line_is_the_message_and_when_it_came(body: bytes, line: bytes | None) -> None:
    assert capture_line(Received(T0, body)) == line


def captured(count: int) -> bytes:
    lines = (capture_line(Received(T0 + n * timedelta(seconds=1), m)) for n, m in enumerate(utxs(0, count)))
    return b"".join(line or b"" for line in lines)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_of_a_cut_capture_the_whole_lines_are_landed_and_its_end_is_named(
    fresh: str, tmp_path: Path, kept: float
) -> None:
    whole = gzip.compress(captured(3_000))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: int(kept * len(whole))])
    unfolded = zlib.decompressobj(wbits=31).decompress(path.read_bytes())
    lines = unfolded.count(b"\n")
    assert lines > 0
    with connect(fresh) as connection, pytest.raises(CaptureError) as told:
        replay(connection, path)
    assert f"cut.jsonl.gz, line {lines + 1}: the gzip file is broken" in str(told.value)
    assert f"{lines} new transactions" in str(told.value)
    assert query(fresh, "SELECT count(*), max(txid) FROM transactions") == [(lines, f"{lines - 1:064x}")]


def test_a_line_that_cannot_be_read_costs_no_line_before_it(fresh: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(captured(7) + b"{no JSON}\n" + captured(9))
    with connect(fresh) as connection, pytest.raises(CaptureError, match=r"line 8: .*7 new transactions"):
        replay(connection, path)
    assert query(fresh, "SELECT count(*) FROM transactions") == [(7,)]


def test_what_a_line_unfolds_to_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(captured(2) + b'{"op":"')
        for _ in range(400):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n')
    lines = read_capture(path)
    tracemalloc.start()
    assert len(list(islice(lines, 2))) == 2
    with pytest.raises(CaptureError, match="line 3: longer than 17 MiB"):
        next(lines)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 100 << 20


@pytest.mark.parametrize(
    "moment",
    [
        "9999-12-31T23:59:59",
        "0001-01-01T00:00:00+14:00",
        "2100-01-01",
        "1970-01-01",
        4e18,
        -1,
        10**400,
        float("inf"),
        float("nan"),
        True,
        [],
        "now",
    ],
    ids=repr,
)
def test_a_moment_of_no_window_is_refused(tmp_path: Path, moment: object) -> None:
    path = tmp_path / "moment.jsonl"
    path.write_text(json.dumps({"op": "utx", "meta": {"received_at": moment}}))
    with pytest.raises(CaptureError, match="line 1: "):
        list(read_capture(path))


def test_a_line_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bytes.jsonl"
    path.write_bytes(b'{"op":"utx"}\n{"op":"utx","x":"\xff"}\n')
    lines = read_capture(path)
    assert next(lines).message == b'{"op":"utx"}'
    with pytest.raises(CaptureError, match="line 2: "):
        next(lines)


@pytest.mark.parametrize("time", [-1, 0, 2**32, 253_402_300_799, 10**18, 10**400])
def test_a_time_of_no_window_is_no_moment_of_receipt(tmp_path: Path, time: int) -> None:
    path = tmp_path / "time.jsonl"
    path.write_bytes(utx(time=time))
    assert [message.received_at for message in read_capture(path)] == [None]
