"""Number the stream's events in the order in which they become visible, and read them by number.

Transactions commit in another order than they insert: whoever goes on after the newest alert that it has seen misses
one that was committed later with an earlier time. So the transaction that inserts an alert or an update only queues it
in `alert_stream`, by a trigger, and its number is given afterwards. One process at a time gives numbers, and commits
them before another may: once a number is seen, no lower one appears any more. Every process that serves the stream
does so, and reads what the others have numbered.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, NamedTuple

import msgspec
import psycopg
from psycopg.rows import dict_row

from txwatch.detection.kinds import Severity
from txwatch.queries.private import names_a_chat
from txwatch.store.database import statement
from txwatch.store.locks import WAIT, Lock
from txwatch.wire.prices import worth

Connection = psycopg.AsyncConnection[Any]

BATCH = 500
"""Events that are numbered, or read, at once."""


@dataclass(frozen=True)
class Event:
    """An alert, or what became known of one: its JSON, and what clients choose by.

    `kinds` are those of the alert, with one more if an update tells it. The amounts are those of its transaction, None
    if there is none, or no price is known.
    """

    sequence: int
    type: Literal["alert", "update"]
    text: str
    kinds: frozenset[str]
    severity: Severity
    value_sat: int | None
    value_usd: float | None
    private: bool
    """Whether it names a chat, which only who may read channels is told."""


class Kept(NamedTuple):
    """Between which numbers, both included, events can be read; `first` is greater than `last` if there are none."""

    first: int
    last: int


async def number_events(connection: Connection) -> int:
    """Give the next numbers to a batch of events without one, in the order in which they were queued.

    Returns how many these were.
    """
    [is_waiting] = await _row(connection, statement("api", "is_unnumbered"))
    if not is_waiting:
        return 0
    async with _alone(connection):
        return (await connection.execute(statement("api", "number_events"), {"limit": BATCH})).rowcount


async def read_kept(connection: Connection) -> Kept:
    """The numbers of events that can be read."""
    # Alone, because a number that somebody is just giving is not to be read yet.
    async with _alone(connection):
        return Kept(*await _row(connection, statement("api", "kept_numbers")))


async def read_events(connection: Connection, after: int) -> list[Event]:
    """A batch of the events after a number, in the order of theirs."""
    cursor = connection.cursor(row_factory=dict_row)
    found = await cursor.execute(statement("api", "events_after"), {"after": after, "limit": BATCH})
    return [_event(**row) async for row in found]


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    """A transaction while which no other process gives numbers."""
    async with connection.transaction():
        # A process that was stopped in the middle must not stop the others.
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10s'")
        await connection.execute(WAIT, [int(Lock.STREAM)])
        yield


async def _row(connection: Connection, query: LiteralString) -> tuple[Any, ...]:
    row: tuple[Any, ...] = await anext(aiter(await connection.execute(query)))
    return row


def _event(sequence: int, update: dict[str, Any] | None, kind: str | None, **alert: Any) -> Event:
    """An event of a row: the columns of its alert, and `update` with the `kind` that it tells, if it is one."""
    value_usd = worth(alert["value_sat"], alert["usd_price"])
    type_: Literal["alert", "update"] = "alert" if update is None else "update"
    told = {"type": type_, "sequence": sequence, **alert, "value_usd": value_usd}
    return Event(
        sequence,
        type_,
        msgspec.json.encode(told if update is None else told | {"update": update}).decode(),
        frozenset(alert["kinds"] if kind is None else [*alert["kinds"], kind]),
        Severity[alert["severity"]],
        alert["value_sat"],
        value_usd,
        names_a_chat(alert["alert_key"]),
    )
