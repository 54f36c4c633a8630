"""From a feed message to the request that Telegram receives, through the whole live lane with a model loaded.

The feed plays simulated traffic at a steady rate, and a whale among it twice a second. What Telegram's own limits
would hold back is left out: the server has none, and the record of requests is emptied after each message.
"""

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

import numpy as np

from benchmarks.champion import promote_champion
from benchmarks.feed import Pongs, accept, frame, frames
from benchmarks.harness import Bench, Measurement
from tests.builders import numbered_utx, pay, spend
from tests.waiting import wait_until
from txwatch.clock import utc_now
from txwatch.detection.registry import ModelRegistry
from txwatch.lab.simulator.telegram import LocalTelegram, ReceivedMessage
from txwatch.lab.simulator.telegram_rules import FloodControl
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import connect

RATES = (7, 70, 700)
WHALES = 60
WHALE_EVERY_SECONDS = 0.5
WHALE_SAT = 60_000_000_000
FIRST_WHALE = 1 << 128
MODEL_LOADS_SECONDS = 25.0
GOAL_MS = 1_000
_TXID = re.compile(r"/tx/([0-9a-f]{64})")


def measure(bench: Bench) -> Iterator[Measurement]:
    """p50 and p99 at each rate; the goal holds for the rates that the network can reach."""
    for rate in RATES:
        latencies = _latencies(bench, rate, 10 if bench.quick else WHALES)
        p50, p99 = np.percentile(latencies, [50, 99])
        goal = GOAL_MS if rate <= 70 else None
        why = f"feed message to request received, {len(latencies)} whales among {rate} tx/s"
        yield Measurement(f"feed_to_telegram_p50_at_{rate}", float(p50), "ms", why=why)
        yield Measurement(f"feed_to_telegram_p99_at_{rate}", float(p99), "ms", at_most=goal, why=why)


def _latencies(bench: Bench, rate: int, whales: int) -> list[float]:
    database_url = bench.database()
    home = bench.folder / f"live-{rate}"
    promote_champion(database_url, ModelRegistry.of(home, database_url, None))
    sent: dict[str, float] = {}
    received: dict[str, float] = {}

    def on_message(message: ReceivedMessage) -> None:
        now = time.monotonic()
        for link in message.links:
            if found := _TXID.search(link):
                received.setdefault(found[1], now)

    unlimited = FloodControl(utc_now, chat_interval=timedelta(0), overall_per_second=1_000_000)
    local = LocalTelegram(flood_control=unlimited, on_message=on_message)
    with (
        TelegramServer(local) as server,
        connect(database_url) as connection,
        bench.process("-m", "benchmarks.live_lane", str(rate), str(whales)) as feed,
    ):
        assert feed.stdout is not None
        port = int(feed.stdout.readline())
        environment = {
            "DATABASE_URL": database_url,
            "TXWATCH_STREAM_URL": f"ws://127.0.0.1:{port}",
            "TXWATCH_HOME": str(home),
            "TELEGRAM_BOT_TOKEN": "1:bench",
            "TELEGRAM_CHAT_ID": "1",
            "TELEGRAM_API_URL": server.url,
        }
        with bench.process("-m", "txwatch", "ingest", **environment):
            reader = threading.Thread(target=_read_sent, args=(feed.stdout, sent))
            reader.start()

            def all_arrived() -> bool:
                # Without a record of requests no message waits for the pace that Telegram asks for.
                connection.execute("DELETE FROM channel_requests WHERE ended_at IS NOT NULL")
                return len(sent) == whales and sent.keys() <= received.keys()

            wait_until(all_arrived, "all whales were told of", 90 + whales * WHALE_EVERY_SECONDS, 0.02)
            reader.join()
    return [(received[txid] - at) * 1_000 for txid, at in sent.items()]


def _read_sent(lines: Iterator[bytes], sent: dict[str, float]) -> None:
    for line in lines:
        txid, at = line.split()
        sent[txid.decode()] = float(at)


def feed(rate: int, whales: int) -> None:
    """The feed's process: prints its port, then the txid and the moment of each whale that it has sent."""
    ready = frames(1_000_000)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        with accept(server) as client:
            pongs = Pongs(client)
            began = time.monotonic()
            ordinary = told = 0
            while told < whales:
                now = time.monotonic() - began
                due = int(now * rate) - ordinary
                client.sendall(b"".join([*islice(ready, max(due, 0)), pongs.take()]))
                ordinary += max(due, 0)
                if now >= MODEL_LOADS_SECONDS + told * WHALE_EVERY_SECONDS:
                    number = FIRST_WHALE + told
                    body = numbered_utx(number, inputs=[spend(WHALE_SAT + 10_000)], out=[pay(WHALE_SAT)])
                    client.sendall(frame(body))
                    print(f"{number:064x}", time.monotonic(), flush=True)
                    told += 1
                pongs.join(min(0.01, 1 / rate))  # until the next is due
            sys.stdout.close()
            pongs.join()  # until the worker leaves


if __name__ == "__main__":
    feed(int(sys.argv[1]), int(sys.argv[2]))
