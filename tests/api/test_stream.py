"""The live stream: what is committed reaches each client, and a client that was away gets what it missed."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from tests.api.alerts import alert
from tests.builders import transaction
from tests.databases import empty_tables
from tests.serving import serving, settings_of
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.alerts.store import insert_alerts
from txwatch.api.broadcast import READERS, RECENT, Stream
from txwatch.api.numbering import BATCH
from txwatch.clock import utc_now
from txwatch.queries.paging import Position
from txwatch.store.database import connect
from txwatch.store.prices import insert_price
from txwatch.store.transactions import land_transactions
from txwatch.wire.prices import Price


def events(response: httpx.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


@pytest.fixture
def address(database_url: str, tmp_path: object) -> Iterator[str]:
    with serving(settings_of(database_url, tmp_path)) as url:  # type: ignore[arg-type]
        yield url


def test_an_alert_and_the_traffic_are_streamed_as_they_are_committed(address: str, database_url: str) -> None:
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        with connection.transaction():
            land_transactions(connection, [transaction(txid=f"{i:064x}", seen_at=utc_now()) for i in range(5)])
            insert_alerts(connection, [alert(1)], [])
        found = {}
        for event in events(response):
            found[event["event"]] = event
            if {"alert", "traffic"} <= found.keys():
                break
    told = json.loads(found["alert"]["data"])
    assert {"value_sat", "value_usd", "usd_price", "usd_price_at"} <= told.keys()
    assert told["alert_key"] == f"{1:064x}"
    assert told["reasons"][0]["text"].endswith("event: forged")
    assert json.loads(found["traffic"]["data"])["transactions_per_second"] == 0.5


def test_an_alert_tells_what_it_was_worth(address: str, database_url: str) -> None:
    now = utc_now()
    worth_something = replace(alert(7), created_at=now, seen_at=now)
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        insert_price(connection, Price(68_000, now - timedelta(minutes=4), "mempool.space"), now)
        with connection.transaction():
            land_transactions(connection, [transaction(txid=f"{7:064x}", value_sat=60_000_000_000, seen_at=now)])
            insert_alerts(connection, [worth_something], [])
        told = next(json.loads(event["data"]) for event in events(response) if event["event"] == "alert")
        empty_tables(connection, "usd_prices")
    assert told["alert_key"] == f"{7:064x}"
    assert (told["value_sat"], told["value_usd"], told["usd_price"]) == (60_000_000_000, 40_800_000, 68_000)
    assert datetime.fromisoformat(told["usd_price_at"]) == now - timedelta(minutes=4)


def test_an_alert_of_a_clock_that_was_ahead_hides_none_after_it(address: str, database_url: str) -> None:
    ahead = replace(alert(90_020), created_at=utc_now() + timedelta(hours=1))
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        told = (json.loads(event["data"])["alert_key"] for event in events(response) if event["event"] == "alert")
        for one in (ahead, alert(90_021), alert(90_022)):
            insert_alerts(connection, [one], [])
            assert next(told) == one.alert_key
    with connect(database_url) as connection:
        connection.execute("DELETE FROM alerts WHERE alert_key = %s", [ahead.alert_key])


def test_a_client_that_was_away_goes_on_after_its_last_alert(address: str, database_url: str) -> None:
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        insert_alerts(connection, [alert(10)], [])
        last = next(event["id"] for event in events(response) if event["event"] == "alert")
    with connect(database_url) as connection:
        insert_alerts(connection, [alert(11)], [])
        insert_alerts(connection, [alert(12)], [])
        headers = {"Last-Event-ID": last}
        with httpx.stream("GET", f"{address}/v1/stream", headers=headers, timeout=PATIENCE_SECONDS) as response:
            insert_alerts(connection, [alert(13)], [])
            keys: list[str] = []
            for event in events(response):
                if event["event"] == "alert":
                    keys.append(json.loads(event["data"])["alert_key"])
                if len(keys) == 3:
                    break
    assert keys == [f"{n:064x}" for n in (11, 12, 13)]


def test_an_id_of_a_server_without_numbers_is_said_to_be_unknown(address: str, database_url: str) -> None:
    headers = {"Last-Event-ID": Position(utc_now(), f"{90_030:064x}").encode()}
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", headers=headers, timeout=PATIENCE_SECONDS) as response,
    ):
        source = events(response)
        begin = next(source)
        assert json.loads(begin["data"]) == {"type": "begin", "after": int(begin["id"]), "complete": False}
        insert_alerts(connection, [alert(90_032)], [])
        assert next(json.loads(e["data"])["alert_key"] for e in source if e["event"] == "alert") == f"{90_032:064x}"


def test_alerts_committed_out_of_order_are_all_told_once(address: str, database_url: str) -> None:
    with (
        connect(database_url) as slow,
        connect(database_url) as fast,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        late = alert(20)
        with slow.transaction():
            insert_alerts(slow, [late], [])
            insert_alerts(fast, [alert(21)], [])
            source = (json.loads(e["data"])["alert_key"] for e in events(response) if e["event"] == "alert")
            assert next(source) == f"{21:064x}"
        assert next(source) == f"{20:064x}"
        insert_alerts(fast, [alert(22)], [])
        assert next(source) == f"{22:064x}"
    assert late.created_at < utc_now() - timedelta(0)


def keys_of(response: httpx.Response) -> Iterator[str]:
    return (json.loads(event["data"])["alert_key"] for event in events(response) if event["event"] == "alert")


def test_a_burst_of_more_than_a_batch_is_told_to_its_end(address: str, database_url: str) -> None:
    burst = [alert(n) for n in range(1_000, 1_000 + BATCH + 200)]
    with (
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        source = keys_of(response)
        with connection.transaction():
            insert_alerts(connection, burst, [])
        assert [next(source) for _ in burst] == [one.alert_key for one in burst]
        insert_alerts(connection, [alert(2_000)], [])
        assert next(source) == f"{2_000:064x}"


def test_a_client_that_missed_more_than_is_kept_in_memory_gets_all_of_it_and_then_what_is_new(
    address: str, database_url: str
) -> None:
    missed = [alert(n) for n in range(3_000, 3_000 + RECENT + BATCH)]
    with httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response:
        left = next(events(response))["id"]
    with connect(database_url) as connection:
        with connection.transaction():
            insert_alerts(connection, missed, [])
        # A browser that comes back asks by the address with which it began, and says in the header how far it got.
        with httpx.stream(
            "GET", f"{address}/v1/stream?after=0", headers={"Last-Event-ID": left}, timeout=PATIENCE_SECONDS
        ) as response:
            source = keys_of(response)
            assert [next(source) for _ in missed] == [one.alert_key for one in missed]
            insert_alerts(connection, [alert(5_000)], [])
            assert next(source) == f"{5_000:064x}"


def test_the_stream_goes_on_after_whatever_the_database_refused(address: str, database_url: str) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as operator,
        connect(database_url) as connection,
        httpx.stream("GET", f"{address}/v1/stream", timeout=PATIENCE_SECONDS) as response,
    ):
        source = keys_of(response)
        insert_alerts(connection, [alert(6_000)], [])
        assert next(source) == f"{6_000:064x}"
        with capture_logs() as lines:
            operator.execute("ALTER TABLE alerts RENAME TO alerts_away")
            try:
                operator.execute("NOTIFY txwatch, 'alert_stream'")
                wait_until(lambda: any(line["event"] == "stream_lost_database" for line in lines), "a line of the log")
            finally:
                operator.execute("ALTER TABLE alerts_away RENAME TO alerts")
        insert_alerts(connection, [alert(6_001)], [])
        assert next(source) == f"{6_001:064x}"


def test_a_bad_id_is_told_before_the_stream_begins(address: str) -> None:
    answer = httpx.get(f"{address}/v1/stream", headers={"Last-Event-ID": "nonsense"}, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_clients_that_come_back_together_take_few_connections(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres has a hundred for all of the system."""
    stream, open_now, most = Stream(database_url), 0, 0
    connected = stream._connected

    @asynccontextmanager
    async def counted() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            async with connected() as connection:
                yield connection
        finally:
            open_now -= 1

    monkeypatch.setattr(stream, "_connected", counted)
    with connect(database_url) as connection:
        insert_alerts(connection, [alert(20_001)], [])

    async def come_back() -> None:
        async for told in stream.follow(after=0):
            if f"{20_001:064x}" in told.text:
                return

    async def all_come_back() -> None:
        async with stream.running():
            await asyncio.gather(*(come_back() for _ in range(5 * READERS)))

    asyncio.run(all_come_back())
    assert most == READERS + 1, "and the one that listens"
