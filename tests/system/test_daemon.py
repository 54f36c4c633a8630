"""The whole window lane as it runs in production: a code server, a Dagster daemon and a feed, each a process.

Nobody here calls an asset or a sensor. The history is simulated; the last window holds live transactions too, which a
worker took from a real feed while its clock stood in that window: nobody need wait for the end of a window of five
minutes.
"""

import asyncio
import threading
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from tests.builders import numbered_utx
from tests.conftest import History, Installation, dagster_at
from tests.feeds import CapturedFeed
from tests.ingest.following import worker_on
from tests.ports import free_port
from tests.waiting import eventually, wait_until
from txwatch.clock import MonotoneClock, utc_now, window_key
from txwatch.store.database import connect
from txwatch.store.lease import read_lease
from txwatch.system.environment import system_environment
from txwatch.system.processes import dagster_processes, feed_process, supervise

LIVE = 40


@pytest.fixture(scope="module")
def template(landed: str) -> str:
    """The history is landed, and that is all."""
    return landed


async def take_live_traffic_into(history: History, database_url: str, folder: Path) -> None:
    """Land transactions from a real feed, in the last second of the history's last window."""
    behind = utc_now() - history.end + timedelta(seconds=30)
    clock = MonotoneClock(lambda: utc_now() - behind)
    feed = CapturedFeed(folder, [numbered_utx(n) for n in range(LIVE)])

    def landed() -> int:
        with connect(database_url) as connection:
            (count,) = connection.execute("SELECT count(*) FROM transactions WHERE source = 'feed'").fetchone() or (0,)
        return int(count)

    def at_work() -> bool:
        with connect(database_url) as connection:
            return read_lease(connection) is not None

    async with feed.serve() as server:
        stop = asyncio.Event()
        shift = asyncio.create_task(
            worker_on(database_url, server.stream_url, "first", folder / "spool", clock=clock).run(stop)
        )
        await eventually(at_work, "the first worker is at work")
        feed.play(LIVE)
        await eventually(lambda: landed() == LIVE, "the live transactions have landed")
        stop.set()
        await shift


def test_the_sensors_seal_train_promote_and_score_until_a_live_window_has_its_scores(
    installation: Installation, history: History, tmp_path: Path
) -> None:
    url = installation.database_url
    asyncio.run(take_live_traffic_into(history, url, tmp_path))

    code_port, feed_port = free_port(), free_port()
    environment = system_environment(
        installation.home,
        url,
        TXWATCH_HISTORY_START=history.start.isoformat(),
        TXWATCH_CODE_PORT=str(code_port),
        TXWATCH_STREAM_URL=f"ws://127.0.0.1:{feed_port}/inv",
        TXWATCH_REST_URL=f"http://127.0.0.1:{feed_port}",
    )
    commands = dagster_processes(code_port)
    del commands["ui"]
    commands["feed"] = feed_process(feed_port, {"rate": 20})
    logs = installation.home / "logs"

    watched: list[BaseException] = []

    def watch(ended: threading.Event) -> None:
        try:
            with dagster_at(installation.home) as instance:
                wait_until(
                    lambda: ended.is_set() or scored_in_full(instance, history.windows[-1]),
                    "the live window is scored",
                    look_every=0.5,
                )
        except BaseException as error:
            watched.append(error)

    status = supervise(commands, environment, logs, watch)
    assert (status, watched) == (0, []), tail_of(logs)
    assert [p for p in psutil.process_iter() if belongs_to(p, installation.home)] == []

    with dagster_at(installation.home) as instance:
        runs = {(run.job_name, run.status.value) for run in instance.get_runs()}
    assert {(job, "SUCCESS") for job in ("ingest_shift", "score_windows", "training")} <= runs
    assert "FAILURE" not in {status for _, status in runs}
    with connect(url) as connection:
        (live_scores,) = connection.execute(
            "SELECT count(*) FROM transaction_scores JOIN transactions USING (txid)"
            " WHERE source = 'feed' AND transactions.seen_at < %s",
            [history.end],
        ).fetchone()
        lease = read_lease(connection)
        (newer,) = connection.execute("SELECT count(*) FROM transactions WHERE seen_at >= %s", [history.end]).fetchone()
    assert live_scores == LIVE
    assert lease is not None
    assert lease.holder.startswith("run "), "a run of Dagster follows the feed"
    assert newer > 0, "and lands it"


def scored_in_full(instance: dg.DagsterInstance, window: datetime) -> bool:
    """Whether Dagster has recorded the scores of a window, and no run but the one at the feed is under way."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    scored = instance.get_materialized_partitions(dg.AssetKey("transaction_scores"))
    return window_key(window) in scored and {run.job_name for run in unfinished} <= {"ingest_shift"}


def belongs_to(process: psutil.Process, home: Path) -> bool:
    """Whether the process is one of this installation's, but for this one and the database's."""
    try:
        return process.pid != psutil.Process().pid and process.environ().get("TXWATCH_HOME") == str(home.resolve())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def tail_of(logs: Path) -> str:
    """The ends of all logs."""
    return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in sorted(logs.glob("*.log")))
