"""The code server's look for dead runs survives a database that is away."""

import multiprocessing
import threading

import dagster as dg
from dagster._grpc.server import DagsterApiServer

from blockchain_assets.code_server import ForkedRuns, adapt


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
