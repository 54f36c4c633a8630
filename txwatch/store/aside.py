"""A connection for code on an event loop: its calls are made in threads, one after the other, and the loop goes on.

A database that is slow, or waits for a lock, would stop the loop otherwise, and with it all that needs no database.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from txwatch.store.database import Connection, connect
from txwatch.waiting import in_daemon

_T = TypeVar("_T")
_P = ParamSpec("_P")

CLOSE_SECONDS = 1.0
"""How long whoever leaves waits for a call that was given up. It may hang; the connection is closed after it."""


class Aside:
    """A connection that only `call` uses."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._turn = threading.Lock()

    async def call(
        self, function: Callable[Concatenate[Connection, _P], _T], *arguments: _P.args, **named: _P.kwargs
    ) -> _T:
        """Give what `function` gives for the connection and these arguments.

        A call that was given up, because its task was cancelled, still ends before the next one begins.
        """

        def work() -> _T:
            with self._turn:
                if self._connection is None:
                    raise RuntimeError("the connection is not open")
                return function(self._connection, *arguments, **named)

        return await in_daemon(work)

    def open(self, database_url: str, application: str) -> None:
        """Connect, in the calling thread. Raises psycopg.OperationalError when the server is away."""
        with self._turn:
            self._connection = connect(database_url, application=application)

    def close(self) -> None:
        """Close the connection, if it was opened, after the call that is under way."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()


@asynccontextmanager
async def connect_aside(database_url: str, *, application: str) -> AsyncIterator[Aside]:
    """A connection as that of `txwatch.store.database.connect`, beside the running loop, closed after the block.

    Raises psycopg.OperationalError when the server is away.
    """
    aside = Aside()
    try:
        await in_daemon(lambda: aside.open(database_url, application))
        yield aside
    finally:
        await asyncio.wait([in_daemon(aside.close)], timeout=CLOSE_SECONDS)
