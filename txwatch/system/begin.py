"""`python -m txwatch.system.begin [--nice N] [--after-port P] [--after-file F] COMMAND...` waits, then becomes it."""

import argparse
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.1
"""A port tells nobody that it is listened to, so it is looked at: without a time limit, for what is waited for belongs
to the same supervisor, which ends all when one of its processes ends."""


def main() -> None:
    """Wait, set the priority and become the command. A signal while it waits ends it."""
    parser = argparse.ArgumentParser(prog="python -m txwatch.system.begin")
    parser.add_argument("--nice", type=int, default=0, help="by how much to lower the priority")
    parser.add_argument("--after-port", type=int, help="begin once somebody listens on this port of loopback")
    parser.add_argument("--after-file", type=Path, help="begin once this file is there")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    while (options.after_file and not options.after_file.exists()) or not _is_listened_to(options.after_port):
        time.sleep(POLL_SECONDS)
    if options.nice:
        _lower_priority(options.nice)
    # A shell has it ignored in what it starts in the background, and Dagster's servers then ignore SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(options.command[0], options.command)  # noqa: S606 - the supervisor's own command


def _is_listened_to(port: int | None) -> bool:
    if port is None:
        return True
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lower_priority(by: int) -> None:
    os.nice(by)
    # Where Linux shares the processor by sessions, niceness counts only within one, and a session has its own.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(by))


if __name__ == "__main__":
    main()
