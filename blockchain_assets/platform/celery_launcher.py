"""The run launcher of several machines (deploy/celery/dagster.yaml), which notices runs whose machine was lost.

It needs the extra `celery`, which the launcher of one machine must do without.
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
