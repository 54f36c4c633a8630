"""Requests that wait hold nothing that others need: neither a thread nor a connection."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tests.builders import T0
from tests.serving import KEY, settings_of
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.api.app import MAX_LONG, create_app
from txwatch.channels.store import NoSuchChannelError
from txwatch.rules.dry_run import DryRun
from txwatch.waiting import wait_for_first

THREADS = 40
"""Of a server: as many of its routes work at once."""
MANY = THREADS + 10
TXID = "ab" * 32
RULE = {"name": "mine", "text": "Mine", "severity": "low", "when": "vsize > 1"}


class Held:
    """Holds up whoever comes, until the block ends."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self._lock, self._end = threading.Lock(), threading.Event()

    def __call__(self, *_: Any, **__: Any) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._end.wait()
        with self._lock:
            self.inside -= 1

    def end(self) -> None:
        self._end.set()


class HeldCollector(Collector):
    def __init__(self, held: Held) -> None:
        self._held = held

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        self._held()
        yield GaugeMetricFamily("held", "Held.", value=1)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 9))
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=PATIENCE_SECONDS
        ) as client,
    ):
        yield client


def hold_metrics(app: FastAPI, held: Held, _: pytest.MonkeyPatch) -> None:
    app.state.metrics.registry.register(HeldCollector(held))


def hold_waterfalls(app: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state.scorer, "waterfall", held)


def hold_features(app: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state.online_features, "of", held)


def hold_drift_pages(_: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.api.routes.drift.read_drift_page", held)


def hold_versions(_: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.api.routes.models.list_versions", lambda _: held() or [])


def hold_dry_runs(_: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.api.routes.rules.dry_run", lambda *_, **__: held() or DryRun(T0, T0, 1.0))


def hold_exports(_: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.api.routes.cases.all_cases", lambda *_, **__: held() or iter(()))


def hold_tests(_: FastAPI, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> NoReturn:
        held()
        raise NoSuchChannelError("there is none")

    monkeypatch.setattr("txwatch.alerts.dispatcher.Chats.of", none)


@pytest.mark.parametrize(
    ("method", "path", "hold", "at_once"),
    [
        ("GET", "/metrics", hold_metrics, 1),
        ("GET", f"/v1/transactions/{TXID}/waterfall", hold_waterfalls, MAX_LONG),
        ("GET", f"/v1/transactions/{TXID}/features", hold_features, MAX_LONG),
        ("GET", "/v1/models", hold_versions, MAX_LONG),
        ("GET", "/v1/models/comparison?a=1&b=2", hold_versions, MAX_LONG),
        ("GET", "/v1/drift/1", hold_drift_pages, MAX_LONG),
        ("POST", "/v1/rule/dry-run", hold_dry_runs, MAX_LONG),
        ("GET", "/v1/export/cases", hold_exports, MAX_LONG),
        ("POST", "/v1/channels/siem/test", hold_tests, MAX_LONG),
    ],
)
def test_many_that_take_long_leave_threads_and_turns_to_others(
    method: str,
    path: str,
    hold: Callable[[FastAPI, Held, pytest.MonkeyPatch], None],
    at_once: int,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def asked() -> None:
        app, held = create_app(settings_of(database_url, tmp_path)), Held()
        hold(app, held, monkeypatch)
        async with running(app) as client:
            many = [asyncio.create_task(client.request(method, path, json=RULE)) for _ in range(MANY)]
            try:
                await eventually(lambda: held.inside >= at_once, "as many are inside as may be")
                answer = asyncio.create_task(client.get("/v1/precision"))
                await wait_for_first(answer, eventually(lambda: held.most > at_once, "more are inside"))
                assert held.most == at_once
                assert answer.result().status_code == 200
            finally:
                held.end()
                await asyncio.gather(*many, return_exceptions=True)

    asyncio.run(asked())


def test_scrapes_that_wait_share_the_reading_that_begins_after_they_asked(database_url: str, tmp_path: Path) -> None:
    async def asked() -> tuple[int, int, set[int]]:
        app, held = create_app(settings_of(database_url, tmp_path)), Held()
        readings = []

        class Counted(HeldCollector):
            def collect(self) -> Iterable[Metric]:
                readings.append(1)
                yield from super().collect()

        app.state.metrics.registry.register(Counted(held))
        async with running(app) as client:
            first = asyncio.create_task(client.get("/metrics"))
            await eventually(lambda: held.inside == 1, "the first is being read")
            many = [asyncio.create_task(client.get("/metrics")) for _ in range(MANY)]
            await client.get("/health/live")
            during = len(readings)
            held.end()
            answers = await asyncio.gather(first, *many)
        return during, len(readings), {answer.status_code for answer in answers}

    assert asyncio.run(asked()) == (1, 2, {200})
