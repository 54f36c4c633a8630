"""The live stream: one listener on Postgres' notifications for all clients, which get what is new as it is committed.

A notification says only that a table has new rows. What they are is read from where the reading before ended, so that
a notification that was missed costs nothing.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
import structlog
from psycopg.rows import dict_row

from txwatch.clock import utc_now
from txwatch.queries.paging import Position
from txwatch.store.sql import statement
from txwatch.store.urls import libpq_url

log = structlog.get_logger(__name__)

CHANNEL = "txwatch"
AT_MOST_EVERY = 0.5
"""Seconds between two readings: the worker commits four times a second."""
ANYWAY_EVERY = 10.0
OVERLAP = timedelta(seconds=10)
"""Two lanes commit alerts out of order; what is read again is recognised by its key."""
QUEUE = 1_000
"""A client that is so many events behind is let go, and comes back with the id of its last one."""
MAX_CLIENTS = 200


@dataclass(frozen=True)
class Event:
    """One event. Alerts have an id, from which a client that was away goes on."""

    kind: Literal["alert", "traffic"]
    data: dict[str, Any]
    id: str | None = None


class Stream:
    """Reads what is new once, and hands it to every client."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._clients: set[asyncio.Queue[Event | None]] = set()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._alerts_since = utc_now()
        self._listening: asyncio.Task[None] | None = None

    @property
    def clients(self) -> int:
        """How many listen."""
        return len(self._clients)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the block."""
        self._listening = asyncio.create_task(self._listen_for_ever())
        try:
            yield
        finally:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
            for queue in self._clients:
                queue.put_nowait(None)

    async def subscribe(self, last_id: str | None = None) -> AsyncIterator[Event]:
        """Events from now on; with the id of an alert, first those that were raised after it."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._clients.add(queue)
        try:
            told: set[str | None] = set()
            if last_id is not None:
                for event in await self._missed(Position.decode(last_id)):
                    told.add(event.id)
                    yield event
            while (next_event := await queue.get()) is not None:
                if next_event.id is None or next_event.id not in told:
                    yield next_event
        finally:
            self._clients.discard(queue)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="txwatch stream", connect_timeout=10
                ) as connection:
                    await connection.execute("SET TIME ZONE 'UTC'")
                    await connection.execute(f"LISTEN {CHANNEL}")
                    await self._tell(connection)
                    while True:
                        await self._tell(connection, await self._changed(connection))
            except psycopg.OperationalError as error:
                log.warning("stream_lost_database", error=str(error))
                await asyncio.sleep(1)

    async def _changed(self, connection: psycopg.AsyncConnection[Any]) -> set[str]:
        """Wait for notifications, then for a moment more, so that a burst is read once. Gives the tables."""
        tables = {n.payload async for n in connection.notifies(timeout=ANYWAY_EVERY, stop_after=1)}
        if tables:
            until = time.monotonic() + AT_MOST_EVERY
            while (left := until - time.monotonic()) > 0:
                tables |= {n.payload async for n in connection.notifies(timeout=left)}
        return tables

    async def _tell(
        self, connection: psycopg.AsyncConnection[Any], tables: set[str] | frozenset[str] = frozenset()
    ) -> None:
        found = await _alerts_after(connection, self._alerts_since - OVERLAP, "", 500)
        for event, created_at in found:
            key = event.data["alert_key"]
            if key in self._told:
                continue
            self._told[key] = None
            if created_at > self._alerts_since or "alerts" in tables:
                self._hand_out(event)
            self._alerts_since = max(self._alerts_since, created_at)
        while len(self._told) > 10_000:
            self._told.popitem(last=False)
        if "transactions" in tables and self._clients:
            cursor = connection.cursor(row_factory=dict_row)
            row = await (await cursor.execute(statement(__file__, "traffic"), {"now": utc_now()})).fetchone()
            self._hand_out(Event("traffic", row or {}))

    async def _missed(self, position: Position) -> list[Event]:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=10) as connection:
            await connection.execute("SET TIME ZONE 'UTC'")
            return [event for event, _ in await _alerts_after(connection, position.moment, position.key, QUEUE)]

    def _hand_out(self, event: Event) -> None:
        for queue in list(self._clients):
            if queue.qsize() >= QUEUE:
                queue.put_nowait(None)
                self._clients.discard(queue)
            else:
                queue.put_nowait(event)


async def _alerts_after(
    connection: psycopg.AsyncConnection[Any], moment: datetime, key: str, limit: int
) -> list[tuple[Event, datetime]]:
    cursor = connection.cursor(row_factory=dict_row)
    rows = await cursor.execute(statement(__file__, "alerts_after"), {"after": moment, "key": key, "limit": limit})
    return [
        (Event("alert", row, Position(row["created_at"], row["alert_key"]).encode()), row["created_at"])
        async for row in rows
    ]
