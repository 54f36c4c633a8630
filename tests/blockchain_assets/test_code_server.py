"""The code server's look for dead runs survives a database that is away."""

import gc
import multiprocessing
import multiprocessing.forkserver
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._grpc.server import DagsterApiServer

from blockchain_assets.platform.code_server import NICENESS, ForkedRuns, adapt


def ended_process() -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    return process


def test_dead_runs_are_looked_for_again_after_an_error(dagster_instance: dg.DagsterInstance) -> None:
    @dg.job
    def long() -> None: ...

    adapt(DagsterApiServer, ForkedRuns())
    adapt(DagsterApiServer, ForkedRuns())
    run = dagster_instance.create_run_for_job(long, status=dg.DagsterRunStatus.STARTED)
    server = DagsterApiServer.__new__(DagsterApiServer)
    server._execution_lock = threading.Lock()
    server._shutdown_once_executions_finish_event = threading.Event()
    server._termination_events, server._termination_times = {run.run_id: multiprocessing.Event()}, {}
    process = ended_process()
    server._executions = {run.run_id: (process, None)}  # type: ignore[dict-item]  # an instance that cannot be had
    server._check_for_orphaned_runs()
    assert run.run_id in server._executions

    server._executions = {run.run_id: (process, dagster_instance.get_ref())}  # type: ignore[dict-item]
    server._check_for_orphaned_runs()
    assert server._executions == {}
    failed = dagster_instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.status is dg.DagsterRunStatus.FAILURE


def run_as(job: str, folder: Path, forked: ForkedRuns) -> list[str]:
    """What the process of a run of this job says of itself."""
    said = folder / job
    process = forked.Process(target=says, args=(str(said), SimpleNamespace(job_name=job)))
    process.start()
    process.join()
    assert process.exitcode == 0
    return said.read_text().split()


def says(file: str, _job: object) -> None:
    imported = "decimal" in sys.modules
    Path(file).write_text(f"{os.nice(0)} {imported} {os.getpgrp() == os.getpid()} {gc.get_freeze_count() > 0}")


def test_runs_are_copies_of_one_process_and_all_but_the_workers_are_niced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blockchain_assets.platform.code_server.IMPORTED_BEFORE", ["decimal"])
    multiprocessing.forkserver._forkserver._stop()
    forked = ForkedRuns()
    forked.begin()
    forked.wait()
    niceness = os.nice(0)
    assert run_as("ingest_shift", tmp_path, forked) == [str(niceness), "True", "True", "True"]
    assert run_as("training", tmp_path, forked) == [str(niceness + NICENESS), "True", "True", "True"]
    multiprocessing.forkserver._forkserver._stop()


def test_a_code_server_forks_once_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    class Server:
        def __init__(self) -> None:
            self._mp_ctx: object = "spawn"

        def _check_for_orphaned_runs(self) -> None: ...

    forked = ForkedRuns()
    monkeypatch.setattr(forked, "wait", lambda: waited.append(True))
    adapt(Server, forked)
    assert Server()._mp_ctx is forked
    assert waited == [True]
