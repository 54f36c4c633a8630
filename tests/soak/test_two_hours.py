"""Hours of traffic with everything going wrong that can, and in the end everything is accounted for.

`TXWATCH_SOAK_MINUTES` says how long (120), `TXWATCH_SOAK_SEED` which faults (1), `TXWATCH_SOAK_REPORT` where the
report goes, `TXWATCH_SOAK_SOURCES` what is followed: blockchain.info, or blockchain.info,mempool.space. Before that the
system trains its first model, and after it a calm follows in which it catches up.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import dagster_at
from tests.repeating import repeating
from tests.soak.chaos import Chaos
from tests.soak.faults import schedule
from tests.soak.home import Home
from tests.soak.memory import SAMPLE_SECONDS, Memory
from tests.soak.outcome import everything_landed, left_files, nothing_waits, scored_in_full, settled_gaps, take_stock
from tests.soak.report import Report
from tests.waiting import wait_until
from txwatch.store.database import connect

pytestmark = pytest.mark.soak

RATE = 20.0
MINUTES = float(os.environ.get("TXWATCH_SOAK_MINUTES", "120"))
SOURCES = os.environ.get("TXWATCH_SOAK_SOURCES", "blockchain.info").split(",")
SEED = int(os.environ.get("TXWATCH_SOAK_SEED", "1"))
BLOCK_SECONDS = min(40.0, 4 * MINUTES)
"""On average. At 20 transactions a second this is a block that is far from full, as recovery needs it to be exact."""
READY_SECONDS = 900.0
SETTLED_SECONDS = 1_800.0
"""A window is sealed after five minutes, and a gap recovered after six blocks; the rest is for a busy machine."""
FLAT_AFTER_SECONDS = 1_800.0
"""A process that has lived for less is still filling its caches."""
MEBIBYTES = {"worker": 50.0, "code": 60.0, "daemon": 60.0, "feed": 250.0, "deliverer": 20.0}
"""What each may grow by. The worker keeps the address book and the recent txids of an hour. The code server and the
daemon hold Dagster's caches of what was materialized, which grow with the windows. The feed keeps its blocks and a
mempool on purpose: it is the test's own."""
CAN_LEAVE_UNCERTAIN = (
    *("telegram_accepts_then_is_silent", "telegram_accepts_then_hangs_up", "telegram_accepts_then_garbles"),
    *("telegram_away", "database_restarted", "database_crashed"),
    *("worker_killed", "deliverer_killed", "run_killed", "code_server_killed"),
)
"""Each can catch one request under way: a chat has one at a time."""


def sampled(home: Home, chaos: Chaos, memory: Memory) -> AbstractContextManager[None]:
    """Sample the memory beside a block."""

    def sample() -> None:
        worker = chaos.worker_pid()
        memory.sample(home.pids() | ({} if worker is None else {"worker": worker}))

    return repeating(sample, SAMPLE_SECONDS)


def is_scoring(home: Home) -> bool:
    """Whether the live lane scores what it lands."""
    with connect(home.database_url) as connection:
        return bool(connection.execute("SELECT 1 FROM transaction_scores WHERE lane = 'live' LIMIT 1").fetchone())


def settle(home: Home) -> tuple[float, list[str]]:
    """Calm the feed, let everything catch up, then end the traffic. Returns how many seconds it took, and what of it
    was waited for in vain."""
    began, in_vain = monotonic(), []

    def wait(condition: Callable[[Home], bool], what: str) -> None:
        try:
            wait_until(lambda: condition(home), what, SETTLED_SECONDS, 5.0)
        except AssertionError:
            in_vain.append(what)  # what is there all the same is accounted for

    home.signal_feed(signal.SIGUSR1)
    wait(settled_gaps, "every gap is recovered")
    wait(scored_in_full, "every transaction is scored, and every planted anomaly has its alert")
    home.signal_feed(signal.SIGUSR2)
    wait(everything_landed, "everything mined has landed")
    wait(nothing_waits, "nothing waits to be delivered")
    return monotonic() - began, in_vain


def runs_by_status(home: Home) -> dict[str, int]:
    """How many runs of each job have ended how."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in home.environment.items():
            patch.setenv(name, value)
        instance = stack.enter_context(dagster_at(home.path))
        return dict(Counter(f"{run.job_name} {run.status.value.lower()}" for run in instance.get_runs()))


def problems_of(report: Report) -> dict[str, object]:
    """Everything in the report that must not be."""
    unsettled = {state: n for state, n in report.ledger.gaps_by_state.items() if state != "recovered"}
    uncertain, may_be = report.post.uncertain_requests, sum(report.faults.get(name, 0) for name in CAN_LEAVE_UNCERTAIN)
    grown = {
        growth.role: growth.mebibytes
        for growth in report.memory
        if growth.lived_seconds >= FLAT_AFTER_SECONDS and growth.mebibytes > MEBIBYTES[growth.role]
    }
    zombies = {run: count for run, count in report.runs.items() if run.endswith(" started")}
    found = {
        "waited for in vain": report.waited_for_in_vain,
        "of the ledger": report.ledger.faults,
        "of the post": report.post.faults,
        "dead": report.post.dead,
        "gaps": unsettled,
        "uncertain without a cause": uncertain if uncertain > may_be else 0,
        "grown": grown,
        "runs that look started": zombies,
        "left files": report.left_files,
        "left processes": report.left_processes,
    }
    return {name: what for name, what in found.items() if what}


def test_hours_of_traffic_and_faults_are_accounted_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds, memory = 60 * MINUTES, Memory()
    with Home(tmp_path, rate=RATE, seed=SEED, block_seconds=BLOCK_SECONDS, sources=SOURCES) as home:
        chaos = Chaos(home, SEED)
        wait_until(lambda: is_scoring(home), "the live lane scores", READY_SECONDS, 1.0)
        with sampled(home, chaos, memory):
            chaos.carry_out(schedule(seconds, SEED), threading.Event(), seconds)
            settled_in, in_vain = settle(home)
        left_processes = home.end()
        ledger, post = take_stock(home)
        report = Report(
            minutes=MINUTES,
            seed=SEED,
            faults=dict(chaos.done),
            restarts=dict(home.started_again),
            ledger=ledger,
            post=post,
            memory=memory.longest_lives(),
            seconds_to_settle=settled_in,
            waited_for_in_vain=in_vain,
            left_files=left_files(home.path),
            left_temporary=sorted(str(path.relative_to(home.temporary)) for path in home.temporary.iterdir()),
            left_processes=left_processes,
            runs=runs_by_status(home),
            moments=chaos.moments,
        )
    report.problems = problems_of(report)
    report.write(Path(os.environ.get("TXWATCH_SOAK_REPORT", tmp_path / "soak.json")))
    with capsys.disabled():
        print("", *report.lines(), sep="\n")
    assert report.problems == {}
