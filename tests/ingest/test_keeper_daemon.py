"""The keeper in a real Dagster daemon: a worker that is killed is replaced, however long the queue of runs is."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.builders import numbered_utx
from tests.conftest import Installation
from tests.ingest.feed_server import Broadcast, scripted_feed
from tests.ingest.following import has_landed, query, until
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import WINDOW, utc_now, window_key, window_start
from txwatch.system.environment import PROJECT

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

QUEUED = 50
REPLACED_WITHIN = timedelta(seconds=30)
START = window_start(utc_now()) - (2 * QUEUED + 2) * WINDOW


@pytest.fixture(scope="module")
def history_start() -> datetime:
    return START


@asynccontextmanager
async def process(environment: dict[str, str], log: Path, *arguments: str) -> AsyncIterator[None]:
    """A process in a session of its own, which ends with the block and takes its children with it."""
    with log.open("ab") as output:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=environment,
            cwd=PROJECT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(running.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()


@asynccontextmanager
async def dagster(installation: Installation, stream_url: str) -> AsyncIterator[None]:
    """The code server and the daemon of an installation."""
    port = free_port()
    environment = installation.environment | {
        "TXWATCH_STREAM_URL": stream_url,
        "TXWATCH_REST_URL": "http://127.0.0.1:9",
        "TXWATCH_CODE_PORT": str(port),
    }
    server = ("-m", "dagster", "api", "grpc", "-m", "blockchain_assets.definitions", "-h", "127.0.0.1", "-p", str(port))
    daemon = ("-m", "dagster._daemon", "run", "-w", "workspace.yaml")
    async with (
        process(environment, installation.home / "code.log", *server, "--location-name", "txwatch"),
        process(environment, installation.home / "daemon.log", *daemon),
    ):
        yield


def kill_worker(database_url: str) -> int:
    """SIGKILL to the process that holds the lease; its epoch."""
    [(holder, epoch)] = query(database_url, "SELECT holder, epoch FROM ingest_lease")
    os.kill(int(holder.rsplit(" ", 1)[-1]), signal.SIGKILL)
    return int(epoch)


async def is_replaced(database_url: str, epoch: int) -> timedelta:
    """How long it takes until a worker of a later epoch has landed something."""
    began = utc_now()
    await until(lambda: query(database_url, "SELECT epoch FROM ingest_lease")[0][0] > epoch)
    [(since,)] = query(database_url, "SELECT acquired_at FROM ingest_lease")
    await until(lambda: query(database_url, "SELECT max(seen_at) FROM transactions")[0][0] > since)
    return utc_now() - began


async def test_a_killed_worker_is_replaced_also_behind_a_long_queue(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    url = installation.database_url
    dagster_instance.event_log_storage.set_concurrency_slots("ingest", 3)
    broadcast = Broadcast(numbered_utx, 50)
    async with scripted_feed(broadcast) as feed, broadcast.on_air(), dagster(installation, feed.url):
        await until(has_landed(url, 100))
        assert await is_replaced(url, kill_worker(url)) < REPLACED_WITHIN

        for n in range(QUEUED):  # every other window: each asks for a run of its own
            event = dg.AssetMaterialization("transactions", partition=window_key(START + 2 * n * WINDOW))
            await asyncio.to_thread(dagster_instance.report_runless_asset_event, event)
        waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
        await until(lambda: dagster_instance.get_runs_count(waiting) >= QUEUED - 10)
        assert await is_replaced(url, kill_worker(url)) < REPLACED_WITHIN
        assert dagster_instance.get_runs_count(waiting) > 0, "the queue was there all the time"
    assert query(url, "SELECT count(*) FROM feed_gaps WHERE cause = 'no worker was running'") == [(2,)]
