"""Numbers of events: given by one process at a time, an alert's before those of its updates, and none twice."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from tests.api.alerts import alert
from txwatch.alerts.store import AlertUpdate, insert_alerts, insert_updates
from txwatch.api.numbering import BATCH, Connection, Event, Kept, number_events, read_events, read_kept
from txwatch.store.database import connect, libpq_url
from txwatch.store.locks import Lock, wait_for

T = TypeVar("T")


def run(database_url: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def connected() -> T:
        url = libpq_url(database_url)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("SET lock_timeout = '50ms'")
            return await work(connection)

    return asyncio.run(connected())


async def number_all(connection: Connection) -> list[int]:
    """How many got a number each time, until none was left."""
    counts = []
    while count := await number_events(connection):
        counts.append(count)
    return counts


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.type, json.loads(event.text)["alert_key"][-4:]) for event in events]


def test_while_one_process_gives_numbers_no_other_does(database_url: str) -> None:
    with connect(database_url) as connection:
        insert_alerts(connection, [alert(1)], [])
        with connection.transaction():
            wait_for(connection, Lock.STREAM)
            for work in (number_events, read_kept):
                with pytest.raises(LockNotAvailable):
                    run(database_url, work)
    assert run(database_url, number_all) == [1]
    assert run(database_url, read_kept) == Kept(1, 1)


def test_an_alert_comes_before_what_becomes_known_of_it_whatever_the_clocks_say(database_url: str) -> None:
    before = run(database_url, read_kept).last
    with connect(database_url) as connection:
        with connection.transaction():
            insert_alerts(connection, [alert(0xA), alert(0xB)], [])
            insert_updates(connection, [AlertUpdate(alert(0xA).alert_key, "confirmed:x", "mined", alert(0xA).seen_at)])
        insert_alerts(connection, [alert(0xA)], [])  # which is there
        with connection.transaction(force_rollback=True):
            insert_alerts(connection, [alert(0xC)], [])
    assert run(database_url, number_all) == [3]
    events = run(database_url, lambda connection: read_events(connection, before))
    assert told(events) == [("alert", "000a"), ("alert", "000b"), ("update", "000a")]
    assert run(database_url, read_kept) == Kept(1, before + 3)


def test_numbers_are_given_and_events_read_batch_by_batch(database_url: str) -> None:
    before = run(database_url, read_kept).last
    with connect(database_url) as connection, connection.transaction():
        insert_alerts(connection, [alert(n) for n in range(10_000, 10_000 + BATCH + 3)], [])
    assert run(database_url, number_all) == [BATCH, 3]
    first = run(database_url, lambda connection: read_events(connection, before))
    rest = run(database_url, lambda connection: read_events(connection, first[-1].sequence))
    assert [len(first), len(rest)] == [BATCH, 3]
    numbers = [event.sequence for event in (*first, *rest)]
    assert numbers == list(range(before + 1, before + BATCH + 4)), "none is wasted"


def test_numbers_go_on_after_all_events_have_expired(database_url: str) -> None:
    last = run(database_url, read_kept).last
    with connect(database_url) as connection:
        connection.execute("DELETE FROM alert_stream")
        assert run(database_url, read_kept) == Kept(last + 1, last)
        insert_alerts(connection, [alert(20_000)], [])
    assert run(database_url, number_all) == [1]
    assert run(database_url, read_kept) == Kept(last + 1, last + 1)
