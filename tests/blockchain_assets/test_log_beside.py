"""A line that Dagster cannot write holds up nobody, and costs nothing but itself."""

import logging
import threading
from collections.abc import Iterator

import dagster as dg
import pytest

from blockchain_assets.platform.log_beside import _Listener, log_beside, written_beside
from tests.waiting import wait_until


class Storage(logging.Handler):
    """Takes lines while it is open, and raises while it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.lines: list[str] = []
        self.refused = 0
        self.threads: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.add(threading.get_ident())
        if self.is_away:
            self.refused += 1
            raise ConnectionError("too many retries for DB connection")
        self.lines.append(record.getMessage())


@pytest.fixture
def storage() -> Iterator[Storage]:
    handler = Storage()
    logger = logging.getLogger("txwatch.beside")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_lines_go_on_when_the_storage_is_back(storage: Storage) -> None:
    logger = logging.getLogger("txwatch.beside")
    with written_beside([logger], Storage):
        logger.warning("before %d", 1)
        wait_until(lambda: storage.lines, "the first line is written")
        storage.is_away = True
        logger.warning("database_away")
        wait_until(lambda: storage.refused == 1, "the line was tried")
        storage.is_away = False
        logger.warning("after")
    assert storage.lines == ["before 1", "after"]
    assert threading.get_ident() not in storage.threads
    logger.warning("as before")
    assert storage.lines[-1] == "as before"


def test_the_end_waits_for_no_storage_that_is_away(storage: Storage) -> None:
    logger = logging.getLogger("txwatch.beside")
    storage.is_away = True
    storage.acquire()  # the first line waits here until all are queued
    with written_beside([logger], Storage):
        for n in range(5_000):
            logger.warning("line %d", n)
        storage.release()
    assert storage.refused < 1_002


def test_at_the_end_no_line_is_tried_after_one_that_failed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("txwatch.beside")
    storage.is_away = True
    end = _Listener.enqueue_sentinel

    def end_and_release(listener: _Listener) -> None:
        end(listener)
        storage.release()

    monkeypatch.setattr(_Listener, "enqueue_sentinel", end_and_release)
    storage.acquire()  # the first line waits here until the end has begun
    with written_beside([logger], Storage):
        for n in range(5):
            logger.warning("line %d", n)
    assert storage.refused == 1


def test_a_run_keeps_its_lines(dagster_instance: dg.DagsterInstance) -> None:
    @dg.op
    def talk(context: dg.OpExecutionContext) -> None:
        with log_beside(context.instance):
            logging.getLogger("txwatch.beside").warning("the feed was heard")

    @dg.job
    def talking() -> None:
        talk()

    result = talking.execute_in_process(instance=dagster_instance)
    lines = [(entry.step_key, entry.user_message) for entry in dagster_instance.all_logs(result.run_id)]
    assert ("talk", "the feed was heard") in lines
