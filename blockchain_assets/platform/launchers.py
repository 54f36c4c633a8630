"""Run launchers that notice lost runs: of processes of this machine (dagster.yaml), and of Celery workers over Redis
(deploy/celery/dagster.yaml, with the extra `celery`)."""

from collections import Counter
from typing import Any

import dagster as dg
from celery import states
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG


class WatchedRunLauncher(DefaultRunLauncher):
    """Asks the code server which runs it executes.

    A code server fails a run whose process has died. When the server itself dies, Dagster's launcher leaves its runs
    started for ever, with the slots of their pools taken: no window would be scored any more.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server has the run. Raises DagsterUserCodeUnreachableError if it does not answer."""
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "No code server has launched the run.")
        known = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        if run.run_id in known.current_runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The code server that began the run has ended.")


ANSWER_SECONDS = 3.0
LOST_AFTER = 3
"""Rounds of monitoring in a row in which no worker knows a run until it is given up: one lost message costs no run."""


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Asks the workers which of them executes a run.

    Dagster's launcher reads the task's last state from the result backend, where the task of a killed worker stays
    STARTED for ever, and so does its run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unknown: Counter[str] = Counter()

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the task has ended, or a worker has had it within LOST_AFTER rounds. Raises the broker's errors."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The run has no Celery task.")
        before = self._unknown.pop(task_id, 0)
        result = self.celery.AsyncResult(task_id)
        if result.state == states.SUCCESS:
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        if result.state in states.EXCEPTION_STATES:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"Celery task {task_id} is {result.state}.")
        worker = result.info.get("hostname") if isinstance(result.info, dict) else None
        if self._has_task(task_id, worker):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if before + 1 == LOST_AFTER:
            said = f"No worker has Celery task {task_id}: its machine was lost."
            return CheckRunHealthResult(WorkerStatus.FAILED, said)
        self._unknown[task_id] = before + 1
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _has_task(self, task_id: str, worker: str | None) -> bool:
        """Whether a worker has the task. If it is known which one began it, only that one is asked, which is faster."""
        inspect = self.celery.control.inspect([worker] if worker else None, timeout=ANSWER_SECONDS)
        answers: dict[str, dict[str, Any]] = inspect.query_task(task_id) or {}
        return any(task_id in tasks for tasks in answers.values())
