"""A failed run is reported in one line that names the run, the job and the cause, and raises an alert."""

from collections.abc import MutableMapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from structlog.testing import capture_logs

from blockchain_assets.definitions import build_defs
from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.failures import WILL_RETRY, run_failure_sensor
from tests.conftest import Installation
from txwatch.store.database import connect


def tick(
    installation: Installation, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, run: dg.DagsterRun
) -> list[MutableMapping[str, Any]]:
    """What the sensor logs about a run."""
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_sensor",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=run,
    )
    with capture_logs() as logs:
        run_failure_sensor(
            context.for_run_failure(),
            database=DatabaseResource(url=installation.database_url),
            telegram=TelegramResource(chats=["1"]),
        )
    return logs


def test_a_failed_run_is_reported_with_its_cause(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    @dg.op
    def refuse() -> None:
        raise dg.Failure("There is no champion to score with.", allow_retries=False)

    @dg.job
    def hopeless() -> None:
        refuse()

    result = hopeless.execute_in_process(instance=dagster_instance, raise_on_error=False)
    (line,) = tick(installation, dagster_instance, result, result.dagster_run)
    assert (line["event"], line["run_id"], line["job"]) == ("run_failed", result.run_id, "hopeless")
    assert "refuse" in line["cause"]
    with connect(installation.database_url) as connection:
        [(text, state)] = connection.execute(
            "SELECT reasons -> 0 ->> 'text', state FROM alerts JOIN alert_deliveries USING (alert_key)"
        ).fetchall()
    assert "hopeless" in text
    assert state == "pending"

    again = result.dagster_run.with_tags({WILL_RETRY: "true"})
    (line,) = tick(installation, dagster_instance, result, again)
    assert line["event"] == "run_interrupted"
    with connect(installation.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM alerts").fetchone() == (1,), (
            "what is launched again is no alert"
        )


@pytest.mark.parametrize(
    ("job", "reason", "again"),
    [
        ("score_windows", RunFailureReason.UNEXPECTED_TERMINATION, True),
        ("score_windows", RunFailureReason.STEP_FAILURE, False),
        ("ingest_shift", RunFailureReason.UNEXPECTED_TERMINATION, False),
        ("deliver_alerts", RunFailureReason.UNEXPECTED_TERMINATION, False),
    ],
)
def test_a_run_that_was_interrupted_is_launched_again_unless_its_sensor_asks(
    installation: Installation, dagster_instance: dg.DagsterInstance, job: str, reason: RunFailureReason, again: bool
) -> None:
    definition = build_defs(installation.settings).resolve_job_def(job)
    run = dagster_instance.create_run_for_job(
        definition, tags=dict(definition.tags), status=dg.DagsterRunStatus.STARTED
    )
    dagster_instance.report_run_failed(run)
    failed = dagster_instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert auto_reexecution_should_retry_run(dagster_instance, failed, reason) is again
