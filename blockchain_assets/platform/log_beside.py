"""Logging for a run that must go on without the database.

Dagster writes each line of a managed logger to its event log on the thread that logs it, and a line that cannot be
written ends the step. The ingest worker logs most when the database is away, and must then go on receiving.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue

import dagster as dg
from dagster._core.log_manager import DagsterLogHandler

MAX_LINES = 1_000
"""Lines that may wait to be written. Further ones are only in the process's own log, which has all."""


@contextmanager
def log_beside(instance: dg.DagsterInstance) -> Iterator[None]:
    """Within the block, a thread of its own passes the lines of managed loggers to Dagster's handlers.

    Lines that cannot be written are left out. At the end the waiting lines are written, until one fails.
    """
    with written_beside([logging.getLogger(name) for name in instance.managed_python_loggers], DagsterLogHandler):
        yield


@contextmanager
def written_beside(loggers: list[logging.Logger], kind: type[logging.Handler]) -> Iterator[None]:
    """The same for the handlers of type `kind` of these loggers."""
    taken = [(logger, handler) for logger in loggers for handler in logger.handlers if isinstance(handler, kind)]
    lines: Queue[logging.LogRecord] = Queue(MAX_LINES)
    listener = _Listener(lines, *dict.fromkeys(handler for _, handler in taken))
    queueing = _QueueHandler(lines)
    for logger, handler in taken:
        logger.removeHandler(handler)
        logger.addHandler(queueing)
    listener.start()
    try:
        yield
    finally:
        for logger, handler in taken:
            logger.removeHandler(queueing)
            logger.addHandler(handler)
        listener.stop()


class _QueueHandler(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self.queue.put_nowait(record)


class _Listener(QueueListener):
    """Passes each line to the handlers, and ignores their errors."""

    _ending = False
    _given_up = False

    def handle(self, record: logging.LogRecord) -> None:
        if self._given_up:
            return
        try:
            super().handle(record)
        except Exception:
            self._given_up = self._ending

    def enqueue_sentinel(self) -> None:
        self._ending = True
        self.queue.put(None)  # type: ignore[attr-defined]  # waits for room
