"""The live stream: one listener on Postgres' notifications tells every client what is new as it is committed.

The newest events are kept once, for all clients; a client is no more than the number that it has got to. One that was
away reads what it missed from the database. One that listened and fell behind all that is kept is told so, and cut.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import msgspec
import psycopg
import structlog
from psycopg.rows import dict_row

from txwatch.api.numbering import BATCH, Connection, Event, number_events, read_events, read_kept
from txwatch.clock import utc_now
from txwatch.store.database import libpq_url, parameters, statement

log = structlog.get_logger(__name__)

CHANNEL = "txwatch"
MIN_SECONDS = 0.5
"""Between two readings: the worker commits four times a second."""
MAX_SECONDS = 10.0
"""After this it is read without a notification too."""
RECENT = 2 * BATCH
"""Events that are kept. A client that is further behind is cut, and comes back with the number of its last one."""
POSITION_SECONDS = 15.0
"""Between two words of where a client is: what it does not want has numbers too."""
MAX_CLIENTS = 200
READERS = 4
"""Clients that read at once what they missed, each on a connection: after a restart all come back together."""
UNKNOWN = 2**63 - 1
"""A number that no event has. Whoever goes on after it is told that something may be missing."""

Choice = Callable[[Event], bool]


@dataclass(frozen=True)
class Told:
    """What a client is told, as JSON. It goes on after the number `after`; traffic has none."""

    type: Literal["begin", "alert", "update", "position", "slow", "traffic"]
    text: str
    after: int | None = None


def _at(type_: Literal["begin", "position", "slow"], after: int, **more: object) -> Told:
    return Told(type_, msgspec.json.encode({"type": type_, "after": after, **more}).decode(), after)


class Stream:
    """Reads what is new once, and tells every client what it wants of it."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self.clients = 0
        """How many follow it."""
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._newest = self._forgotten = 0
        """Numbers: of the newest event that was read, and of the newest that is not kept any more."""
        self._traffic: Told | None = None
        self._changed = asyncio.Event()
        """Set, and replaced by another one, when there is something new."""
        self._ready = asyncio.Event()
        self._ended = False
        self._readers = asyncio.Semaphore(READERS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the block."""
        listening = asyncio.create_task(self._listen_for_ever())
        try:
            yield
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            self._ended = True
            self._ready.set()
            self._wake()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count one who follows it, for the block."""
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1

    async def follow(self, after: int | None = None, wants: Choice = lambda _: True) -> AsyncGenerator[Told]:
        """What a client is told: `begin`, then the events that it wants, after a number or from now on.

        Between them come `traffic` and its `position`. It ends with `slow`, with the stream, or when the database is
        away.
        """
        try:
            begin = await self._begin(after)
            yield begin
            at, listens, traffic, due = begin.after or 0, False, self._traffic, _soon()
            while not self._ended:
                changed, forgotten = self._changed, self._forgotten
                if at >= forgotten:
                    listens, events = True, self._kept_after(at)
                elif listens:
                    yield _at("slow", at)
                    return
                else:
                    events = await self._read_after(at)
                for event in events:
                    at = event.sequence
                    if wants(event):
                        yield Told(event.type, event.text, at)
                if not listens and not events:  # they have expired
                    at = forgotten
                if self._traffic is not None and self._traffic is not traffic:
                    traffic = self._traffic
                    yield traffic
                if time.monotonic() >= due:
                    yield _at("position", at)
                    due = _soon()
                if listens and not events:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(due - time.monotonic()):
                            await changed.wait()
        except psycopg.Error as error:
            log.warning("stream_client_lost_database", error=str(error))

    async def _begin(self, after: int | None) -> Told:
        await self._ready.wait()
        if after is None:
            return _at("begin", self._newest, complete=True)
        async with self._readers, self._connected() as connection:
            kept = await read_kept(connection)
        if after > kept.last:
            return _at("begin", self._newest, complete=False)
        return _at("begin", max(after, kept.first - 1), complete=after >= kept.first - 1)

    def _kept_after(self, number: int) -> list[Event]:
        newest_first = list(takewhile(lambda event: event.sequence > number, reversed(self._recent)))
        return newest_first[::-1]

    async def _read_after(self, number: int) -> list[Event]:
        # The connection is not kept while a slow client takes what was read.
        async with self._readers, self._connected() as connection:
            return await read_events(connection, number)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with self._connected() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    if not self._ready.is_set():
                        self._newest = self._forgotten = (await read_kept(connection)).last
                        self._ready.set()
                    tables = {"alert_stream"}
                    while True:
                        await self._tell_new(connection, tables)
                        tables = await self._changed_tables(connection)
            except psycopg.Error as error:
                log.warning("stream_lost_database", error=str(error))
                await asyncio.sleep(1)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        given = parameters(self._url, "txwatch stream")
        async with await psycopg.AsyncConnection.connect(self._url, **given) as connection:
            yield connection

    async def _changed_tables(self, connection: Connection) -> set[str]:
        """Wait for notifications, then for a moment more, so that a burst is read once."""
        tables = {n.payload async for n in connection.notifies(timeout=MAX_SECONDS, stop_after=1)}
        if not tables:
            return {"alert_stream"}
        until = time.monotonic() + MIN_SECONDS
        while (left := until - time.monotonic()) > 0:
            tables |= {n.payload async for n in connection.notifies(timeout=left)}
        return tables

    async def _tell_new(self, connection: Connection, tables: set[str]) -> None:
        if "transactions" in tables and self.clients:
            self._traffic = await _read_traffic(connection)
            self._wake()
        is_more = "alert_stream" in tables
        while is_more:
            numbered = await number_events(connection)
            events = await read_events(connection, self._newest)
            self._tell(events)
            is_more = BATCH in {numbered, len(events)}
            if is_more:  # Clients take this batch before they get the next one.
                await asyncio.sleep(MIN_SECONDS)

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if len(self._recent) == RECENT:
                self._forgotten = self._recent[0].sequence
            self._recent.append(event)
            self._newest = event.sequence
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _soon() -> float:
    return time.monotonic() + POSITION_SECONDS


async def _read_traffic(connection: Connection) -> Told:
    cursor = connection.cursor(row_factory=dict_row)
    rows: list[dict[str, Any]] = await (
        await cursor.execute(statement("api", "traffic"), {"now": utc_now()})
    ).fetchall()
    return Told("traffic", msgspec.json.encode({"type": "traffic", **rows[0]}).decode())
