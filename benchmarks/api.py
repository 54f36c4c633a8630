"""The API with 50 clients at once over a million transactions: how long a page takes, and scoring 1 and 1,000.

And the dashboard: from the request of a browser to its first figures. Limits are those of the same work without a
server: the query alone, the scoring alone.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import httpx
import numpy as np

from benchmarks.harness import PROJECT, Bench, Measurement
from tests.features.window_lane import materialize
from tests.ports import free_port
from tests.registering import registered
from tests.waiting import answers, wait_until
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import train
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.queries.transactions import list_transactions
from txwatch.store.database import connect
from txwatch.system.history import land_history

CLIENTS = 50
ROWS = 1_000_000
KEY = "a-key-for-the-benchmark"
SECONDS = 8.0


def measure(bench: Bench) -> Iterator[Measurement]:
    """The figures."""
    rows = ROWS // 20 if bench.quick else ROWS
    url = bench.database()
    home = bench.folder / "api"
    posted = _populate(url, home, rows)
    environment = os.environ | {
        "DATABASE_URL": url,
        "TXWATCH_HOME": str(home),
        "TXWATCH_API_KEY": KEY,
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
    }
    port = free_port()
    # One process of the product itself, as `txwatch api` runs it.
    serve = (
        "import sys; from txwatch.settings import Settings;"
        "from txwatch.api.app import create_app; import uvicorn;"
        "uvicorn.run(create_app(Settings()), host='127.0.0.1',"
        " port=int(sys.argv[1]), access_log=False, log_level='error')"
    )
    with Popen([sys.executable, "-c", serve, str(port)], env=environment, stdout=DEVNULL) as server:
        try:
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{base}/health/live"), "the API answers")
            yield from _measure_api(base, url, posted, rows)
        finally:
            server.terminate()
    yield from _measure_dashboard(environment)


def _measure_api(base: str, url: str, posted: list[dict[str, Any]], rows: int) -> Iterator[Measurement]:
    what = f"{CLIENTS} clients, {rows:,} transactions stored"
    alone = _query_alone(url)
    page = _load(base, lambda client: client.get("/v1/transactions"))
    yield from _percentiles("api_transactions_page", page, what + "; limit: the query alone", alone)
    key = {"Authorization": f"Bearer {KEY}"}
    one, batch = posted[0], {"transactions": posted}
    with httpx.Client(base_url=base, headers=key, timeout=120) as client:
        client.post("/v1/score/batch", json=batch).raise_for_status()  # loads the model
        began = time.perf_counter()
        client.post("/v1/score", json=one).raise_for_status()
        alone_one = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        client.post("/v1/score/batch", json=batch).raise_for_status()
        alone_batch = (time.perf_counter() - began) * 1000
    single = _load(base, lambda client: client.post("/v1/score", json=one, headers=key))
    yield from _percentiles("api_score_1", single, f"{CLIENTS} clients; limit: one client", alone_one)
    body = json.dumps(batch).encode()
    headers = key | {"Content-Type": "application/json"}
    many = _load(base, lambda client: client.post("/v1/score/batch", content=body, headers=headers))
    yield from _percentiles("api_score_1000", many, f"{CLIENTS} clients; limit: one client", alone_batch)


def _percentiles(name: str, found: list[float], why: str, limit: float) -> Iterator[Measurement]:
    for percentile in (50, 99):
        value = float(np.percentile(found, percentile))
        yield Measurement(f"{name}_p{percentile}", value, "ms", limit=limit, why=why)
    yield Measurement(f"{name}_rate", len(found) / SECONDS, "requests/s", why=why)


def _load(base: str, ask: Callable[[httpx.Client], httpx.Response]) -> list[float]:
    """Latencies in ms of CLIENTS clients that each ask again as soon as they are answered, for SECONDS."""
    found: list[float] = []
    until = time.perf_counter() + SECONDS

    def work() -> None:
        with httpx.Client(base_url=base, timeout=120) as client:
            while time.perf_counter() < until:
                began = time.perf_counter()
                ask(client).raise_for_status()
                found.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _query_alone(url: str) -> float:
    """The median of the page's query on one connection, in ms."""
    found = []
    with connect(url) as connection:
        for _ in range(50):
            began = time.perf_counter()
            list_transactions(connection)
            found.append((time.perf_counter() - began) * 1000)
    return float(np.median(found))


def _measure_dashboard(environment: dict[str, str]) -> Iterator[Measurement]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return
    from playwright.sync_api import sync_playwright

    port = free_port()
    command = [sys.executable, "-m", "txwatch", "dashboard", f"--port={port}"]
    with Popen(command, env=environment, stdout=DEVNULL, stderr=DEVNULL) as server:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"), "the dashboard answers")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                found = []
                for _ in range(5):
                    page = browser.new_context().new_page()
                    began = time.perf_counter()
                    page.goto(f"http://127.0.0.1:{port}/")
                    page.locator(".tile .value").first.wait_for(timeout=60_000)
                    found.append((time.perf_counter() - began) * 1000)
                    page.close()
                browser.close()
        finally:
            server.terminate()
    yield Measurement(
        "dashboard_first_paint_p50", float(np.median(found)), "ms", why="new browser context, first figures"
    )
    yield Measurement("dashboard_first_paint_cold", found[0], "ms", why="the first visitor of the server")


def _populate(url: str, home: Path, rows: int) -> list[dict[str, Any]]:
    """So many stored transactions, an hour of them with features, and a champion. Gives 1,000 to post."""
    now = utc_now()
    start = window_start(now) - timedelta(hours=1)
    land_history(url, Simulator("2024-03", seed=1, start=start, rate=2.5), now)
    with connect(url) as connection:
        materialize(connection, start, window_start(now))
        features = read_recent_features(connection, start)
        row = connection.execute("SELECT count(*) FROM transactions").fetchone()
        copies = -(-rows // row[0]) - 1 if row else 0
        # The same traffic again and again, under other txids, each time an hour earlier.
        connection.execute(
            "INSERT INTO transactions SELECT (t).* FROM (SELECT jsonb_populate_record(transactions, jsonb_build_object("
            "'txid', md5(txid || n) || md5(n || txid), 'seen_at', seen_at - n * interval '1 hour')) AS t"
            " FROM transactions, generate_series(1, %s) AS n) AS copies",
            [copies],
        )
        connection.execute("ANALYZE transactions")
    registry = ModelRegistry.of(home, url, None)
    trained = train(features, start, window_start(now) + WINDOW, alerts_per_hour=12, whale_btc=500, seed=1)
    registry.promote(registered(registry, trained, features), {})
    simulated = Simulator("2024-03", seed=2, start=now, rate=100).until(now + timedelta(minutes=1))
    return [json.loads(transaction.message)["x"] for transaction, _ in zip(simulated, range(1_000), strict=False)]
