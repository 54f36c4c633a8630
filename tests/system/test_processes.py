"""The supervisor: when one process ends, a signal comes or the watching is over, all end, and so do their children."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.system.processes import LOG_BYTES, bound_logs

SUPERVISOR = """
import json, os, sys
from pathlib import Path
from txwatch.system.processes import supervise

commands, folder, watch_for = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def watch(ended):
    (folder / "watching").touch()
    while not ended.wait(0.05):
        if watch_for and Path(watch_for).exists():
            if Path(watch_for).name == "wrong":
                raise ValueError("what it watches is wrong")
            return

sys.exit(supervise({k: [sys.executable, "-c", v] for k, v in commands.items()}, os.environ, folder, watch))
"""

UNANSWERED = """
import json, os, sys, threading
from pathlib import Path
from txwatch.system import processes

processes.LAST_LOOK_SECONDS = 0.2
commands, folder = json.loads(sys.argv[1]), Path(sys.argv[2])

def watch(ended):
    (folder / "watching").touch()
    threading.Event().wait()  # for a server that never answers

sys.exit(processes.supervise({k: [sys.executable, "-c", v] for k, v in commands.items()}, os.environ, folder, watch))
"""

# They wait for a signal; the alarm is one that ends them, should a test have failed to.
SLEEPER = (
    "import pathlib, signal; pathlib.Path('{marker}').touch(); print('here', flush=True);"
    " signal.alarm(3_600); signal.pause()"
)
# As the code server starts a run: the child is in a process group of its own, and outlives a parent that is ended.
WITH_CHILD = (
    "import signal, subprocess, sys;"
    " subprocess.Popen([sys.executable, '-c', {child!r}], process_group=0); signal.alarm(3_600); signal.pause()"
)


@contextmanager
def supervisor(
    commands: dict[str, str], folder: Path, watch_for: Path | None = None, script: str = SUPERVISOR
) -> Iterator[subprocess.Popen[str]]:
    """A supervisor as a process, told to end at the end of the block: a test that fails must not wait for sleepers."""
    with subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(commands), str(folder), str(watch_for or "")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def sleeper(marker: Path) -> str:
    return SLEEPER.format(marker=marker)


def left_of(folder: Path) -> list[int]:
    """Processes that name the folder in their command line: all that a supervisor started for it."""
    return [
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if p.pid != psutil.Process().pid and any(str(folder) in word for word in p.info["cmdline"] or [])
    ]


def ended(process: subprocess.Popen[str], folder: Path) -> int:
    """The exit status, once it has ended and left no process."""
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert errors == ""
    assert left_of(folder) == []
    return process.returncode


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_with_its_status(tmp_path: Path, number: signal.Signals, status: int) -> None:
    one, other, grandchild = (tmp_path / name for name in ("one", "other", "grandchild"))
    commands = {
        "one": sleeper(one),
        "other": sleeper(other),
        "parent": WITH_CHILD.format(child=sleeper(grandchild)),
    }
    with supervisor(commands, tmp_path) as process:
        wait_until(lambda: one.exists() and other.exists() and grandchild.exists(), "all have begun")
        process.send_signal(number)
        assert ended(process, tmp_path) == status
    assert (tmp_path / "one.log").read_text() == "here\n"


SIGNALLED_AT_ONCE = """
import os, signal
from honcho.manager import Manager

start = Manager._start

def start_and_be_signalled(self):
    start(self)
    os.kill(os.getpid(), signal.SIGTERM)

Manager._start = start_and_be_signalled
"""


def test_a_signal_before_any_process_has_reported_ends_all(tmp_path: Path) -> None:
    commands = {name: sleeper(tmp_path / name) for name in ("one", "other")}
    with supervisor(commands, tmp_path, script=SIGNALLED_AT_ONCE + SUPERVISOR) as process:
        assert ended(process, tmp_path) == 143


def test_the_end_of_the_watching_ends_all_with_status_0(tmp_path: Path) -> None:
    one, grandchild = tmp_path / "one", tmp_path / "grandchild"
    commands = {"one": sleeper(one), "parent": WITH_CHILD.format(child=sleeper(grandchild))}
    with supervisor(commands, tmp_path, watch_for=grandchild) as process:
        assert ended(process, tmp_path) == 0


def test_a_watching_that_waits_for_somebody_else_holds_up_no_end(tmp_path: Path) -> None:
    marker = tmp_path / "here"
    with supervisor({"one": SLEEPER.format(marker=marker)}, tmp_path, script=UNANSWERED) as process:
        wait_until(lambda: marker.exists() and (tmp_path / "watching").exists(), "it watches")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_an_error_of_the_watching_ends_all_and_is_raised(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    with supervisor({"one": sleeper(wrong)}, tmp_path, watch_for=wrong) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert errors.endswith("ValueError: what it watches is wrong\n")
    assert left_of(tmp_path) == []


def test_the_first_that_fails_ends_all_with_its_status(tmp_path: Path) -> None:
    commands = {"one": sleeper(tmp_path / "one"), "failing": "import sys; print('why', file=sys.stderr); sys.exit(3)"}
    with supervisor(commands, tmp_path) as process:
        assert ended(process, tmp_path) == 3
    assert (tmp_path / "failing.log").read_text() == "why\n"


def test_one_that_fails_later_is_no_end_of_the_watching(tmp_path: Path) -> None:
    one, go = tmp_path / "one", tmp_path / "go"
    os.mkfifo(go)
    waits = f"import pathlib, sys; pathlib.Path({str(go)!r}).read_text(); sys.exit(3)"
    with supervisor({"one": sleeper(one), "failing": waits}, tmp_path) as process:
        wait_until(lambda: (tmp_path / "watching").exists() and one.exists(), "all have begun")
        go.write_text("go")
        assert ended(process, tmp_path) == 3


def test_a_log_that_is_large_begins_again_while_its_process_writes_on(tmp_path: Path) -> None:
    log = tmp_path / "code.log"
    with log.open("a") as writing:
        for line in range(4):
            writing.write(f"line {line}\n")
            writing.flush()
            bound_logs(tmp_path, most=13)
    assert (tmp_path / "code.log.1").read_text() == "line 2\nline 3\n"
    assert log.read_text() == ""
    assert not list(tmp_path.glob("*.1.1"))


def test_a_log_that_cannot_be_moved_aside_holds_up_no_other(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.log").write_text("a line\n")
        if name != "c":
            (tmp_path / f"{name}.log.1").mkdir()
    (tmp_path / "gone.log").symlink_to(tmp_path / "nowhere")
    bound_logs(tmp_path, most=3)
    assert (tmp_path / "c.log").read_text() == ""
    assert (tmp_path / "c.log.1").read_text() == "a line\n"


def test_a_log_that_is_large_at_the_start_begins_again(tmp_path: Path) -> None:
    with (tmp_path / "one.log").open("wb") as log:
        log.truncate(LOG_BYTES + 1)
    with supervisor({"one": "print('here')"}, tmp_path) as process:
        assert ended(process, tmp_path) == 0
    assert (tmp_path / "one.log").read_text() == "here\n"
    assert (tmp_path / "one.log.1").stat().st_size == LOG_BYTES + 1
