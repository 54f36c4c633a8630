"""Bounds of a query: what it may take, and what ends it when DuckDB does not.

DuckDB's own bounds do not reach functions of lists and of text: it neither counts their memory nor interrupts them.
"""

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NoReturn

import duckdb
import pyarrow as pa

from txwatch.errors import UserError

BESIDE_BYTES = 1 << 30
"""Bytes of memory that a query may take besides what it is given: for reading files and rows, and for its answer."""
_GRACE_SECONDS = 5.0
"""Seconds that DuckDB has to end when it is interrupted: a function of lists or of text does not look."""
_STATUS = Path("/proc/self/status")
"""Where Linux tells how much memory a process has."""


class QueryError(UserError):
    """SQL that is no query, that fails, or that would take too much. The message is DuckDB's, or names the bound."""


@dataclass(frozen=True)
class Limits:
    """What one query may take: time, memory, temporary files, threads, and rows and Arrow's bytes of its answer."""

    seconds: float = 60.0
    memory_mb: int = 512
    temporary_mb: int = 4_096
    threads: int = 2
    rows: int = 100_000
    bytes: int = 256 << 20


@contextmanager
def bounded_memory(memory_mb: int) -> Iterator[None]:
    """Let the block take so much memory, and BESIDE_BYTES, more than the process has. Only Linux can tell that.

    Raises QueryError in place of MemoryError.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (_most_bytes(memory_mb), soft, hard) if limit != resource.RLIM_INFINITY]
    if limits:
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    except MemoryError:
        raise QueryError("The query takes too much memory: ask for less, or raise --memory-mb.") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _most_bytes(memory_mb: int) -> int:
    """By what RLIMIT_DATA counts."""
    try:
        told = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    except OSError:
        return resource.RLIM_INFINITY
    return (int(told["VmData"].split()[0]) << 10) + (memory_mb << 20) + BESIDE_BYTES


def end_process(why: str) -> NoReturn:
    """End the process with 2 at once, from whichever thread, whatever the others do."""
    sys.stderr.write(f"txwatch: {why}\n")
    sys.stderr.flush()
    os._exit(2)


@contextmanager
def tidied(tidy: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end the process at once in the block, as ever, but after `tidy`. In the main thread alone.

    Python's own handlers wait for DuckDB, which may compute for hours; what a signal writes another thread reads.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait() -> None:
        with ours:
            while number := ours.recv(1):
                if number[0] == signal.SIGTERM:
                    tidy()
                    os._exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=wait, name="tidied", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd)
        signal.signal(signal.SIGTERM, before)
        theirs.close()


def too_long(limits: Limits) -> str:
    """What is said of a query whose time is over."""
    return f"The query took longer than {limits.seconds:g} s. Ask for fewer days."


class TimeLeft:
    """The time that a query has left. Writing its answer is part of it, but only DuckDB is ended."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, limits: Limits, overrun: Callable[[str], None]) -> None:
        self._engine, self._limits, self._overrun = engine, limits, overrun
        self._until = monotonic() + limits.seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Interrupt what DuckDB does in the block, once no time is left. Raises QueryError if none is before."""
        if (left := self._until - monotonic()) <= 0:
            raise QueryError(too_long(self._limits))
        timers = [
            threading.Timer(left, self._engine.interrupt),
            threading.Timer(left + _GRACE_SECONDS, self._overrun, [too_long(self._limits)]),
        ]
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()


def timed(reader: pa.RecordBatchReader, time_left: TimeLeft) -> Iterator[pa.RecordBatch]:
    """The batches, each made in the time that is left. Raises ArrowException, also for what DuckDB ends meanwhile."""
    while True:
        with time_left.running():
            try:
                batch = next(reader, None)
            except OSError as error:
                # So a reader tells DuckDB's errors; one of the disk to which the answer is written is another thing.
                raise pa.ArrowException(str(error)) from None
        if batch is None:
            return
        yield batch
