"""`python -m txwatch.system.begin [--nice N] [--after-port P] [--after-file F] COMMAND...` becomes the command.

It waits first, so that on a small machine what is needed first is there first; and it lowers the priority of what may
take its time.
"""

import argparse
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_SECONDS = 0.1
"""Nobody tells a process that another one has begun to listen."""


def main() -> None:
    """Wait, then become the command, with its priority. A signal while it waits ends it."""
    parser = argparse.ArgumentParser(prog="python -m txwatch.system.begin")
    parser.add_argument("--nice", type=int, default=0, help="by how much to lower the priority")
    parser.add_argument("--after-port", type=int, help="begin once somebody listens on this port of loopback")
    parser.add_argument("--after-file", type=Path, help="begin once this file is there")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    while not (_is_there(options.after_file) and _is_listened_to(options.after_port)):
        time.sleep(LOOK_EVERY_SECONDS)
    if options.nice:
        _lower_priority(options.nice)
    os.execvp(options.command[0], options.command)  # noqa: S606 - the supervisor's own command


def _is_there(file: Path | None) -> bool:
    return file is None or file.exists()


def _is_listened_to(port: int | None) -> bool:
    if port is None:
        return True
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lower_priority(by: int) -> None:
    os.nice(by)
    # Where Linux shares the processor by sessions, niceness counts within one only; a session has its own besides.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(by))


if __name__ == "__main__":
    main()
