"""A recording in S3 is as one in a file; what cannot be put there stays on this machine, and is named."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.buckets import SECRET, environment_of, s3_server, using_s3
from tests.ingest.feed_server import Stage, scripted_feed
from tests.ingest.following import landed, utxs
from tests.waiting import PATIENCE_SECONDS
from txwatch.captures import CaptureError, read_capture
from txwatch.ingest.recording import RecordingError, file_to_record
from txwatch.places import S3Object
from txwatch.store.database import connect

MESSAGES = utxs(0, 40)
CAPTURE = "s3://captures/2026/feed.jsonl.gz"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server with one bucket, which this process uses."""
    with s3_server("captures") as client, using_s3(environment_of(client)):
        yield client


@pytest.fixture
def environment(s3: Any, tmp_path: Path) -> dict[str, str]:
    """What a command of the test sees."""
    home, project = str(tmp_path / "home"), str(Path(__file__).parents[2])
    machine = {"PATH": "/usr/bin:/bin", "PYTHONPATH": project, "COLUMNS": "400"}
    return {**machine, "TXWATCH_HOME": home, **environment_of(s3)}


async def run(*arguments: str, environment: Mapping[str, str], folder: Path, stop: asyncio.Event | None = None) -> str:
    """What `txwatch` says; it is sent SIGTERM once `stop` is set. Its errors follow its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "txwatch", *arguments,
        env=dict(environment), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        if stop is not None:
            await asyncio.wait_for(stop.wait(), PATIENCE_SECONDS)
            process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in errors.decode()
    assert SECRET not in (output + errors).decode()
    return output.decode() + (f"{process.returncode} {errors.decode()}" if process.returncode else "")


async def recorded(address: str, environment: Mapping[str, str], folder: Path, s3: Any = None) -> str:
    """What `txwatch record` says of MESSAGES. With `s3`, the bucket is removed while it records."""
    heard = asyncio.Event()

    async def play(stage: Stage) -> None:
        await stage.send(*MESSAGES)
        await (await stage.websocket.ping())  # answered: all that was sent before has arrived
        if s3 is not None:
            s3.delete_bucket(Bucket=S3Object(*address.removeprefix("s3://").split("/", 1)).bucket)
        heard.set()
        await stage.stay()

    async with scripted_feed(play) as feed:
        settings = {**environment, "TXWATCH_STREAM_URL": feed.url}
        return await run("record", address, environment=settings, folder=folder, stop=heard)


@pytest.mark.anyio
async def test_a_recording_that_is_ended_by_sigterm_is_in_the_bucket_and_gives_the_same_rows(
    environment: dict[str, str], server_url: str, tmp_path: Path
) -> None:
    said = await recorded(CAPTURE, environment, tmp_path)
    assert f"Recorded {len(MESSAGES)} messages, 0 left out" in said
    assert said.splitlines()[-1] == f"Put into {CAPTURE}."
    assert list((tmp_path / "home/recordings").iterdir()) == [], "nothing is left behind"
    stored = S3Object("captures", "2026/feed.jsonl.gz")
    assert [c.message.replace(b" ", b"") for c in read_capture(stored)] == [m.replace(b" ", b"") for m in MESSAGES]

    copy = tmp_path / "copy.jsonl.gz"
    copy.write_bytes(stored.read_bytes())
    rows = {}
    for address in (CAPTURE, str(copy)):
        with connect(server_url) as connection:
            connection.execute("DROP DATABASE IF EXISTS replayed")
            connection.execute("CREATE DATABASE replayed TEMPLATE template_txwatch")
        url = server_url.replace("/postgres?", "/replayed?")
        settings = environment | {"DATABASE_URL": url}
        assert "Landed 40 transactions." in await run("replay", address, environment=settings, folder=tmp_path)
        rows[address] = landed(url)
    assert rows[CAPTURE] == rows[str(copy)]
    assert len(rows[CAPTURE]) == 40
    with pytest.raises(RecordingError, match="is there already; a recording does not write over"):
        file_to_record(stored, tmp_path)


@pytest.mark.anyio
async def test_what_cannot_be_put_into_the_bucket_stays_in_a_file_that_is_named(
    s3: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    s3.create_bucket(Bucket="doomed", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    said = await recorded("s3://doomed/feed.jsonl.gz", environment, tmp_path, s3)
    (left,) = (tmp_path / "home/recordings").iterdir()
    assert f"2 txwatch: The recording stays in {left}: s3://doomed/feed.jsonl.gz: " in said
    assert len(list(read_capture(left))) == len(MESSAGES)
    s3.create_bucket(Bucket="doomed", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with pytest.raises(RecordingError, match="holds a recording for s3://doomed/feed"):
        file_to_record(S3Object("doomed", "feed.jsonl.gz"), tmp_path / "home")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "s3://nowhere/a.jsonl"], "s3://nowhere/a.jsonl: there is no such bucket"),
        (["record", "s3://captures"], "s3://captures/ names no object to record to"),
        (["replay", "s3://captures/gone.jsonl"], "There is no capture at s3://captures/gone.jsonl."),
        (["replay", "s3://nowhere/a.jsonl"], "s3://nowhere/a.jsonl: there is no such bucket"),
        (["replay", "gone.jsonl"], "There is no capture at gone.jsonl."),
        (["feed", "--port=0", "--capture=s3://captures/gone.jsonl"], "There is no capture at s3://captures/gone.jsonl."),
        (["demo", "--capture=s3://@/gone.jsonl"], "An s3:// address names a bucket"),
        (["evaluate", "--train", "s3://captures/gone", "--background", "a", "--positives", "a"],
         "There is no capture at s3://captures/gone."),
    ],
)  # fmt: skip
@pytest.mark.anyio
async def test_an_address_that_gives_nothing_is_said_in_one_line(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    settings = environment | {"DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}
    answer = await run(*arguments, environment=settings, folder=tmp_path)
    assert answer.startswith(f"2 txwatch: {said}")
    assert len(answer.splitlines()) == 1


@pytest.mark.usefixtures("s3")
def test_a_broken_capture_is_named_with_its_line() -> None:
    whole = b'{"op":"status"}\n' * 5
    for name, content, said in (
        ("broken.jsonl", whole + b"{nonsense\n", "s3://captures/broken.jsonl, line 6: "),
        ("broken.jsonl.gz", b"\x1f\x8b\x08\x00broken", "s3://captures/broken.jsonl.gz, line 1: "),
    ):
        S3Object("captures", name).write_bytes(content)
        with pytest.raises(CaptureError, match=said):
            list(read_capture(S3Object("captures", name)))
