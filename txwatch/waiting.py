"""Waiting in asyncio: until a signal, for the first of several things, and for what may hang."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


def run_until_signalled(work: Callable[[asyncio.Event], Coroutine[Any, Any, _T]]) -> _T:
    """Run `work` in a loop of its own, with an event that SIGINT and SIGTERM set. Returns what it returns."""

    async def main() -> _T:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await work(stop)

    return asyncio.run(main())


async def wait_for_first(*waits: Awaitable[object], at_most: float | None = None) -> None:
    """Wait until one of these ends, for `at_most` seconds, and cancel the others. Raises what ended it."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        ended, _ = await asyncio.wait(tasks, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


def in_daemon(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run what may hang in a thread of its own: the loop's pool would soon be full of it, and the process never end."""
    ended: Future[_T] = Future()
    ended.set_running_or_notify_cancel()

    def work() -> None:
        try:
            ended.set_result(function())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=work, name="in_daemon", daemon=True).start()
    return asyncio.wrap_future(ended)
