"""Something that is done again and again in a thread while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(action: Callable[[], object], every_seconds: float) -> Iterator[None]:
    """Do it every so often, from the first pause on until the end of the block."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every_seconds):
            action()

    thread = threading.Thread(target=work, name="repeating")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
