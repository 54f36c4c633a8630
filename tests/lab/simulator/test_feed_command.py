"""`txwatch feed` as a process: it ends cleanly on a signal, and with one line when it cannot go on."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.waiting import PATIENCE_SECONDS


@contextmanager
def feed_process(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "txwatch", "feed", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def stream_url(process: subprocess.Popen[str]) -> str:
    """Where it serves, once it does."""
    assert process.stdout is not None
    return process.stdout.readline().split()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_while_a_client_listens(number: signal.Signals) -> None:
    with feed_process("--port=0", "--rate=200") as process, connect(stream_url(process)) as client:
        client.send('{"op":"unconfirmed_sub"}')
        assert client.recv(timeout=PATIENCE_SECONDS).startswith('{"op":"utx"')
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, errors) == (0, "")


def refusal(*options: str) -> str:
    """What the command says when it refuses to run."""
    with feed_process(*options) as process:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert "Traceback" not in output + errors
    return " ".join((output + errors).split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--regime=2009-01"], "no regime '2009-01'; there are 2024-03, 2024-10, 2025-07"),
        (["--capture=gone.jsonl"], "There is no capture at gone.jsonl"),
        (["--rate=0"], "it must be a number above 0"),
        (["--truth=/nowhere/truth.jsonl"], "/nowhere/truth.jsonl"),
    ],
)
def test_what_it_cannot_play_is_said_at_once(options: list[str], said: str) -> None:
    assert said in refusal("--port=0", *options)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use; choose another with --port" in refusal(f"--port={port}")


def test_a_bad_line_of_the_capture_is_named_when_it_is_reached(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    capture.write_text("{nonsense\n")
    with feed_process("--port=0", f"--capture={capture}") as process, connect(stream_url(process)) as client:
        client.send('{"op":"unconfirmed_sub"}')
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert "capture.jsonl, line 1: " in " ".join((output + errors).split())
    assert "Traceback" not in output + errors
