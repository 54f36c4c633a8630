"""The dispatcher in a thread of its own: it waits for the database and for Telegram, and must not hold up the feed."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from txwatch.alerts.dispatcher import Dispatcher

log = structlog.get_logger(__name__)

OpenDispatcher = Callable[[], AbstractAsyncContextManager[Dispatcher]]
"""Opens a dispatcher for the length of an `async with` block."""


class Delivery:
    """Delivers from `start` to `stop`. `wake` may be called from any thread, and says that an alert was committed."""

    def __init__(self, open_dispatcher: OpenDispatcher) -> None:
        self._open = open_dispatcher
        self._thread = threading.Thread(target=lambda: asyncio.run(self._deliver()), name="delivery", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """Look now, and not at the next second."""
        if self._loop is not None and self._dispatcher is not None:
            self._call(self._dispatcher.wake)

    def stop(self, seconds: float) -> None:
        """End after the request that is under way. What is left waits in the database for the next one."""
        self._ready.wait(seconds)
        self._call(self._stop.set)
        self._thread.join(seconds)

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    async def _deliver(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        try:
            async with self._open() as dispatcher:
                self._dispatcher = dispatcher
                await dispatcher.run(self._stop)
        except Exception:
            log.exception("delivery_ended")  # the alert sensor and the delivery sensor go on delivering
