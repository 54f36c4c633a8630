"""From feed messages to a phone, without Dagster: what is planted arrives once, and a second replay sends nothing."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.alerts.accelerated import ORIGIN, AcceleratedTime
from tests.databases import empty_tables
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import raise_window_alerts
from txwatch.captures import read_capture
from txwatch.clock import WINDOW, window_range
from txwatch.detection.model import Model
from txwatch.detection.score_windows import score_windows
from txwatch.detection.training import train
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import read_recent_features, write_features
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import from_wire

HOUR = timedelta(hours=1)
PLANTED = {"plant:fee_accident", "plant:whale"}
Message = tuple[datetime, bytes]


def replay(connection: Connection, messages: list[Message]) -> int:
    """Land messages as the worker does. Returns how many were new."""
    transactions = []
    for at, body in messages:
        message = decode(body)
        assert isinstance(message, UnconfirmedTransaction)
        transactions.append(from_wire(message.x, at))
    with connection.transaction():
        return len(land_transactions(connection, transactions))


def featured(connection: Connection, start: datetime, end: datetime) -> None:
    with connection.transaction():
        publish_network_baseline(connection, start, end)
    for _ in write_features(connection, start, end):
        pass


def trained(connection: Connection, start: datetime, end: datetime, version: str, seed: int) -> Model:
    features = read_recent_features(connection, start)
    result = train(features, start, end, alerts_per_hour=12, whale_btc=500, seed=seed, min_rows=500)
    return Model(version, result.pipeline, result.card)


def deliver(database_url: str, telegram_url: str, time: AcceleratedTime) -> Counter[str]:
    async def drain() -> Counter[str]:
        async with TelegramSender("1:a", telegram_url) as sender:
            dispatcher = Dispatcher(database_url, sender, ("1",), clock=time.clock, sleep=time.sleep)
            await dispatcher.drain(HOUR)
            return dispatcher.delivered

    return asyncio.run(drain())


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(
            connection,
            "transactions, network_baseline, transaction_features, transaction_scores,"
            " alerts, alert_deliveries, channels, channel_requests",
        )
        yield connection


def test_planted_accidents_and_whales_arrive_once_and_a_second_replay_sends_nothing(
    database_url: str, connection: Connection
) -> None:
    time = AcceleratedTime.starting_now(120)
    local = LocalTelegram(time.clock)
    start, end = ORIGIN - 2 * WINDOW, ORIGIN
    simulated = list(Simulator(seed=5, start=start).until(end))
    planted = {s.txid for s in simulated if PLANTED & set(s.labels)}
    assert len(planted) >= 4

    assert replay(connection, [(s.at, s.message) for s in simulated]) == len(simulated)
    featured(connection, start, end)
    model = trained(connection, start, end, "1", seed=1)
    score_windows(connection, window_range(start, end), model, whale_btc=500)
    assert planted <= set(raise_window_alerts(connection, start, end, ["1"], time.clock()))
    with TelegramServer(local) as server:
        deliver(database_url, server.url, time)
        named = Counter(link.rsplit("/", 1)[1] for message in local.received for link in message.links)
        assert {txid: named[txid] for txid in planted} == dict.fromkeys(planted, 1)
        assert max(named.values()) == 1
        received = len(local.received)

        # The same capture again, later, and its windows scored again by another model.
        again = HOUR
        assert replay(connection, [(s.at + again, s.message) for s in simulated]) == 0
        featured(connection, start + again, end + again)
        other = trained(connection, start, end, "2", seed=2)
        for from_, to in ((start, end), (start + again, end + again)):
            score_windows(connection, window_range(from_, to), model, whale_btc=500)
        assert raise_window_alerts(connection, start, end + again, ["1"], time.clock()) == []
        score_windows(connection, window_range(start, end), other, whale_btc=500)
        late = raise_window_alerts(connection, start, end, ["1"], time.clock() + HOUR)
        assert not planted & set(late), "another model's opinion does not alert again"
        connection.execute("DELETE FROM alert_deliveries WHERE alert_key = ANY(%s)", [late])
        assert deliver(database_url, server.url, time) == Counter()
        assert len(local.received) == received


def test_the_real_fee_accidents_of_block_210000_are_alerted_with_the_fee_first(
    database_url: str, connection: Connection, shared_data: Path
) -> None:
    start, end = ORIGIN - WINDOW, ORIGIN
    capture = list(read_capture(shared_data / "blocks-2011-2016.jsonl.gz"))
    replay(connection, [(start + timedelta(seconds=n / 5), c.message) for n, c in enumerate(capture)])
    featured(connection, start, end)
    score_windows(connection, window_range(start, end), trained(connection, start, end, "1", seed=1), whale_btc=500)
    time = AcceleratedTime.starting_now(60)  # after the work: an alert of a quarter of an hour ago is late
    local = LocalTelegram(time.clock)
    raise_window_alerts(connection, start, end, ["1"], time.clock())
    with TelegramServer(local) as server:
        deliver(database_url, server.url, time)
    for txid in ("891af643", "9f036c3f", "e49b1178"):
        (message,) = [m for m in local.received if any(f"/{txid}" in link for link in m.links)]
        assert len(message.links) == 1, "it goes out by itself: of many accidents the largest come first"
        title, first_reason, *_ = message.text.splitlines()
        assert title.startswith("🔥 Fee accident"), message.text
        assert " · fee " in title, message.text
        assert "of what was spent" in first_reason
