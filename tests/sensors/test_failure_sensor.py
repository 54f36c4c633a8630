"""A failed run is reported in one line that names the run, the job and the cause, and raises an alert."""

import dagster as dg
from structlog.testing import capture_logs

from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.failures import run_failure_sensor
from tests.conftest import Installation
from txwatch.store.database import connect


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
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_sensor",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=dagster_instance,
        dagster_run=result.dagster_run,
    )
    with capture_logs() as logs:
        run_failure_sensor(
            context.for_run_failure(),
            database=DatabaseResource(url=installation.database_url),
            telegram=TelegramResource(chats=["1"]),
        )
    (line,) = logs
    assert (line["event"], line["run_id"], line["job"]) == ("run_failed", result.run_id, "hopeless")
    assert "refuse" in line["cause"]
    with connect(installation.database_url) as connection:
        [(text, state)] = connection.execute(
            "SELECT reasons -> 0 ->> 'text', state FROM alerts JOIN alert_deliveries USING (alert_key)"
        ).fetchall()
    assert "hopeless" in text
    assert state == "pending"
