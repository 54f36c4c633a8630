"""Run launchers: processes of this machine that are watched, and Celery workers.

`dagster.yaml` names it.

`deploy/celery/dagster.yaml` names it. The broker is Redis. Needs the extra `celery`.
"""

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
    """Asks the code server which runs it works on.

    A code server fails a run whose process has died. When it dies itself, with its container or for want of memory, the
    stock launcher leaves its runs started for ever, and with them the slots of their pools: no window would be scored
    any more.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server has the run. Raises DagsterUserCodeUnreachableError, which says nothing of it."""
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "No code server has launched the run.")
        known = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        if run.run_id in known.current_runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "The code server that began the run has ended.")


ANSWER_SECONDS = 3.0
LOST_AFTER = 3
"""A run is given up only when no worker knows it in so many rounds of the monitoring in a row: one lost message must
not cost a run."""


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Asks the workers themselves who works on a run.

    The stock launcher reads the task's last state from the result backend. The task of a worker that was killed stays
    STARTED there for ever, and so does its run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unknown: Counter[str] = Counter()

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's task has ended, or a worker has it. Raises the broker's errors, which say nothing of it.

        It counts as running until LOST_AFTER rounds have found nobody who has it.
        """
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The run has no Celery task.")
        before = self._unknown.pop(task_id, 0)
        result = self.celery.AsyncResult(task_id)
        if result.state == states.SUCCESS:
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        if result.state in states.EXCEPTION_STATES:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"Celery task {task_id} is {result.state}.")
        if self._has_task(task_id, _worker_of(result.info)):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if before + 1 == LOST_AFTER:
            return CheckRunHealthResult(
                WorkerStatus.FAILED, f"No worker has Celery task {task_id}: its machine was lost."
            )
        self._unknown[task_id] = before + 1
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _has_task(self, task_id: str, worker: str | None) -> bool:
        """Whether a worker answers that it has the task; the one that began it is asked alone, which is faster."""
        inspect = self.celery.control.inspect([worker] if worker else None, timeout=ANSWER_SECONDS)
        answers: dict[str, dict[str, Any]] = inspect.query_task(task_id) or {}
        return any(task_id in tasks for tasks in answers.values())


def _worker_of(info: object) -> str | None:
    return info.get("hostname") if isinstance(info, dict) else None
