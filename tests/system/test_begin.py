"""A command that is begun waits for what it needs, and takes the place and the priority that it is given."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

SAYS = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {os.nice(0)}')"


@contextmanager
def begun(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SAYS, str(folder / "said")]
    with subprocess.Popen([sys.executable, "-m", "txwatch.system.begin", *options, *command]) as process:
        try:
            yield process
        finally:
            process.kill()


def said(folder: Path) -> tuple[int, int]:
    """The process and the niceness that the command had."""
    pid, nice = (folder / "said").read_text().split()
    return int(pid), int(nice)


def test_the_command_takes_its_place_with_a_lower_priority(tmp_path: Path) -> None:
    with begun(tmp_path, "--nice=7") as process:
        assert process.wait(PATIENCE_SECONDS) == 0
    assert said(tmp_path) == (process.pid, os.nice(0) + 7)


def test_it_waits_for_a_file_and_for_a_port(tmp_path: Path) -> None:
    port = free_port()
    with begun(tmp_path, f"--after-file={tmp_path / 'there'}", f"--after-port={port}") as process:
        (tmp_path / "there").touch()
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(60)
            server.accept()[0].close()
            assert process.wait(PATIENCE_SECONDS) == 0
    assert said(tmp_path)[0] == process.pid


def test_nothing_begins_before_its_time(tmp_path: Path) -> None:
    with begun(tmp_path, f"--after-file={tmp_path / 'never'}") as process:
        wait_until(lambda: "begin" in Path(f"/proc/{process.pid}/cmdline").read_text(), "it waits")
        process.kill()
        assert process.wait(PATIENCE_SECONDS) != 0
    assert not (tmp_path / "said").exists()
