"""The live stream: one listener on Postgres' notifications sends every client what is new as it is committed.

A notification says only that a table has new rows. They are read from where the last reading ended, so that nothing is
lost with a notification that was missed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import psycopg
import structlog
from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from psycopg.rows import dict_row

from txwatch.api.problems import ProblemError, documented
from txwatch.clock import utc_now
from txwatch.queries.paging import Position
from txwatch.store.database import libpq_url, statement
from txwatch.wire.prices import worth

log = structlog.get_logger(__name__)

CHANNEL = "txwatch"
MIN_SECONDS = 0.5
"""Between two readings: the worker commits four times a second."""
MAX_SECONDS = 10.0
"""After this it is read without a notification too."""
OVERLAP = timedelta(seconds=10)
"""Is read again, because two lanes commit alerts out of order. An alert that was sent is known by its key."""
TOLD_AGAIN = timedelta(hours=1)
"""What a client gets whose last alert is of the future: a clock was ahead, and nobody knows what followed."""
BATCH = 500
"""Alerts in one reading. More are read batch after batch."""
QUEUE = 1_000
"""Events. A client that is so far behind is disconnected, and comes back with the id of its last event."""
MAX_CLIENTS = 200
READERS = 4
"""Clients that read at once what they missed, each on a connection: after a restart all come back together."""


@dataclass(frozen=True)
class Event:
    """One event. An alert has an id, after which a client that was away goes on."""

    kind: Literal["alert", "traffic"]
    data: dict[str, Any]
    id: str | None = None


class Stream:
    """Reads what is new once, and sends it to every client."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._clients: set[asyncio.Queue[Event | None]] = set()
        # Keys of alerts of the last OVERLAP, each with when it was raised.
        self._sent: dict[str, datetime] = {}
        self._has_read = False
        self._alerts_since = utc_now()
        self._readers = asyncio.Semaphore(READERS)
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
        """Events as they come; with the id of an alert, first the alerts that were raised after it."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._clients.add(queue)
        may_come_again = self._alerts_since - OVERLAP
        try:
            sent: set[str | None] = set()
            position = None if last_id is None else _begin_after(Position.decode(last_id), utc_now())
            while position is not None:
                # The connection is not kept while a slow client takes what was read.
                async with self._readers, self._connected() as connection:
                    missed, position = await _alerts_after(connection, position)
                for event, created_at in missed:
                    if created_at >= may_come_again:
                        sent.add(event.id)
                    yield event
                if queue not in self._clients:  # Disconnected meanwhile: it comes back for the rest.
                    return
            while (next_event := await queue.get()) is not None:
                if next_event.id is None or next_event.id not in sent:
                    yield next_event
        finally:
            self._clients.discard(queue)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with self._connected() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    await self._send_new(connection, set())
                    while True:
                        await self._send_new(connection, await self._changed_tables(connection))
            except psycopg.Error as error:
                log.warning("stream_lost_database", error=str(error))
                await asyncio.sleep(1)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name="txwatch stream", connect_timeout=10
        ) as connection:
            await connection.execute("SET TIME ZONE 'UTC'")
            yield connection

    async def _changed_tables(self, connection: psycopg.AsyncConnection[Any]) -> set[str]:
        """Wait for notifications, then for a moment more, so that a burst is read once."""
        tables = {n.payload async for n in connection.notifies(timeout=MAX_SECONDS, stop_after=1)}
        if tables:
            until = time.monotonic() + MIN_SECONDS
            while (left := until - time.monotonic()) > 0:
                tables |= {n.payload async for n in connection.notifies(timeout=left)}
        return tables

    async def _send_new(self, connection: psycopg.AsyncConnection[Any], tables: set[str]) -> None:
        position: Position | None = Position(self._alerts_since - OVERLAP, "")
        while position is not None:
            found, position = await _alerts_after(connection, position)
            for event, created_at in found:
                key = event.data["alert_key"]
                if key in self._sent:
                    continue
                self._sent[key] = created_at
                if self._has_read or created_at > self._alerts_since:
                    self._send(event)
            if found:
                # An alert of the future was raised while a clock was ahead: all that follow are older.
                self._alerts_since = min(max(self._alerts_since, found[-1][1]), utc_now())
            if position is not None:  # Clients take this batch before they get the next one.
                await asyncio.sleep(MIN_SECONDS)
        self._has_read = True
        again_from = self._alerts_since - OVERLAP
        self._sent = {key: created_at for key, created_at in self._sent.items() if created_at >= again_from}
        if "transactions" in tables and self._clients:
            cursor = connection.cursor(row_factory=dict_row)
            row = await (await cursor.execute(statement("api", "traffic"), {"now": utc_now()})).fetchone()
            self._send(Event("traffic", row or {}))

    def _send(self, event: Event) -> None:
        for queue in list(self._clients):
            if queue.qsize() >= QUEUE:
                queue.put_nowait(None)
                self._clients.discard(queue)
            else:
                queue.put_nowait(event)


def _begin_after(last: Position, now: datetime) -> Position:
    return last if last.moment <= now + OVERLAP else Position(now - TOLD_AGAIN, "")


async def _alerts_after(
    connection: psycopg.AsyncConnection[Any], position: Position
) -> tuple[list[tuple[Event, datetime]], Position | None]:
    """A batch of alerts after a position, oldest first, and where the next batch begins: None after the last one."""
    cursor = connection.cursor(row_factory=dict_row)
    after = {"after": position.moment, "key": position.key, "limit": BATCH}
    rows = await (await cursor.execute(statement("api", "alerts_after"), after)).fetchall()
    for row in rows:
        row["value_usd"] = worth(row["value_sat"], row["usd_price"])
    ends = [Position(row["created_at"], row["alert_key"]) for row in rows]
    found = [(Event("alert", row, end.encode()), end.moment) for row, end in zip(rows, ends, strict=True)]
    return found, ends[-1] if len(ends) == BATCH else None


router = APIRouter(tags=["stream"])


def _position(
    request: Request,
    last_event_id: Annotated[
        str | None, Header(max_length=400, description="`id` of the last alert that was received.")
    ] = None,
) -> str | None:
    # Checked before the answer begins: in the middle of a stream there is no way to answer with an error.
    if request.app.state.stream.clients >= MAX_CLIENTS:
        raise ProblemError(503, f"{MAX_CLIENTS} clients listen already", headers={"Retry-After": "30"})
    if last_event_id is not None:
        Position.decode(last_event_id)
    return last_event_id


@router.get(
    "/v1/stream",
    summary="Alerts and traffic as they happen",
    response_class=EventSourceResponse,
    responses=documented(),
)
async def stream(
    request: Request, last_id: Annotated[str | None, Depends(_position)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `alert` for each alert when it is raised, `traffic` up to twice a second.

    A client that was away sends the `id` of its last alert as `Last-Event-ID` (a browser's EventSource does), and gets
    what was raised meanwhile first.
    """
    source: Stream = request.app.state.stream
    async for event in source.subscribe(last_id):
        yield ServerSentEvent(data=event.data, event=event.kind, id=event.id)
