"""Runs on several machines: Dagster's Celery run launcher, with a health check that notices a lost machine.

`deploy/celery/dagster.yaml` names it. The broker is Redis. Needs the extra `celery`.
"""

from collections import Counter
from typing import Any

import dagster as dg
from celery import states
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

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
