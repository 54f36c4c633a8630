"""A run whose machine was lost is given up, and none for one message that went astray."""

import dagster as dg
import pytest
from celery import states
from dagster._core.launcher import WorkerStatus
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from blockchain_assets.platform import celery_launcher
from blockchain_assets.platform.celery_launcher import LOST_AFTER, WatchedCeleryRunLauncher

TASK = "a-task"
RUN = dg.DagsterRun(job_name="score_windows", tags={DAGSTER_CELERY_TASK_ID_TAG: TASK})


@pytest.fixture
def launcher(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> WatchedCeleryRunLauncher:
    """On a real broker that no worker listens to."""
    monkeypatch.setattr(celery_launcher, "ANSWER_SECONDS", 0.1)
    launcher = WatchedCeleryRunLauncher(default_queue="dagster", broker=redis_url, backend=redis_url)
    launcher.celery.backend.delete(launcher.celery.backend.get_key_for_task(TASK))
    return launcher


def statuses(launcher: WatchedCeleryRunLauncher, rounds: int) -> list[WorkerStatus]:
    return [launcher.check_run_worker_health(RUN).status for _ in range(rounds)]


def test_a_run_that_no_worker_has_is_given_up_after_some_rounds(launcher: WatchedCeleryRunLauncher) -> None:
    launcher.celery.backend.store_result(TASK, None, states.STARTED)
    assert statuses(launcher, LOST_AFTER) == [WorkerStatus.RUNNING] * (LOST_AFTER - 1) + [WorkerStatus.FAILED]


def test_one_answer_begins_the_count_anew(launcher: WatchedCeleryRunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True, False, False, False])
    monkeypatch.setattr(launcher, "_has_task", lambda *_: next(answers))
    assert statuses(launcher, 6) == [WorkerStatus.RUNNING] * 5 + [WorkerStatus.FAILED]


@pytest.mark.parametrize(
    ("state", "status"), [(states.SUCCESS, WorkerStatus.SUCCESS), (states.FAILURE, WorkerStatus.FAILED)]
)
def test_a_task_that_has_ended_is_believed_at_once(
    launcher: WatchedCeleryRunLauncher, state: str, status: WorkerStatus
) -> None:
    launcher.celery.backend.store_result(TASK, Exception("why") if state == states.FAILURE else None, state)
    assert statuses(launcher, 1) == [status]


def test_a_run_without_a_task_was_never_launched(launcher: WatchedCeleryRunLauncher) -> None:
    health = launcher.check_run_worker_health(dg.DagsterRun(job_name="score_windows"))
    assert health.status == WorkerStatus.NOT_FOUND
