"""From a committed alert to the request that a local Telegram receives, through a dispatcher that runs beside a lane.

The chat is idle before each alert, so that what is measured is the product and not the pace that Telegram asks for.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np

from benchmarks.harness import Bench, Measurement
from tests.waiting import wait_until
from txwatch.alerts.alert import Alert
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import insert_alerts
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_rules import FloodControl
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import Connection, connect

CHAT = "1"
ALERTS = 200
STORM = 10_000


def measure(bench: Bench) -> Iterator[Measurement]:
    """Latency of single alerts, and of the first message in a storm."""
    database_url = bench.database()
    arrived = threading.Event()
    unlimited = FloodControl(utc_now, chat_interval=timedelta(0), overall_per_second=1_000_000)
    local = LocalTelegram(flood_control=unlimited, on_message=lambda _: arrived.set())
    with TelegramServer(local) as server, connect(database_url) as connection:
        latencies = asyncio.run(_one_by_one(connection, database_url, server.url, arrived, bench.size(ALERTS)))
        p50, p99 = np.percentile(latencies, [50, 99])
        why = "alert committed to request received, chat idle"
        yield Measurement("alert_to_telegram_p50", float(p50), "ms", why=why)
        yield Measurement("alert_to_telegram_p99", float(p99), "ms", at_most=500, why=why)
        storm = asyncio.run(_storm(connection, database_url, server.url, arrived, bench.size(STORM)))
        why = f"{bench.size(STORM):,} alerts at once, until the first arrived"
        yield Measurement("alert_storm_first_message", storm, "ms", at_most=1_000, why=why)


async def _one_by_one(
    connection: Connection, database_url: str, url: str, arrived: threading.Event, count: int
) -> list[float]:
    latencies = []
    stop = asyncio.Event()
    async with TelegramSender("1:a", url) as sender:
        dispatcher = Dispatcher(database_url, sender, (CHAT,))
        running = asyncio.create_task(dispatcher.run(stop))
        for n in range(count):
            await asyncio.to_thread(
                wait_until, lambda n=n: dispatcher.delivered.total() >= n, "the last is recorded", 10, 0.001
            )
            connection.execute("DELETE FROM channel_requests")
            arrived.clear()
            began = time.perf_counter()
            await asyncio.to_thread(_commit, connection, [_alert(n)])
            dispatcher.wake()
            await asyncio.to_thread(arrived.wait, 10)
            latencies.append((time.perf_counter() - began) * 1_000)
        stop.set()
        dispatcher.wake()
        await running
    return latencies


async def _storm(connection: Connection, database_url: str, url: str, arrived: threading.Event, count: int) -> float:
    connection.execute("DELETE FROM channel_requests")
    _commit(connection, [_alert(1_000_000 + n) for n in range(count)])
    arrived.clear()
    async with TelegramSender("1:a", url) as sender:
        began = time.perf_counter()
        draining = asyncio.create_task(Dispatcher(database_url, sender, (CHAT,)).drain(timedelta(0)))
        await asyncio.to_thread(arrived.wait, 30)
        took = (time.perf_counter() - began) * 1_000
        await draining
    return took


def _commit(connection: Connection, alerts: list[Alert]) -> None:
    with connection.transaction():
        insert_alerts(connection, alerts, [CHAT])


def _alert(n: int) -> Alert:
    now = utc_now()
    return Alert(f"{n:064x}", ["whale"], Severity.high, [Reason("whale", "1,000.00 BTC")], False, now, now, "1")
