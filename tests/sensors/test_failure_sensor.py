"""A failed run is reported in one line that names the run, the job and the cause."""

import dagster as dg
from structlog.testing import capture_logs

from sensors.failures import run_failure_sensor


def test_a_failed_run_is_reported_with_its_cause(dagster_instance: dg.DagsterInstance) -> None:
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
        run_failure_sensor(context.for_run_failure())
    (line,) = logs
    assert (line["event"], line["run_id"], line["job"]) == ("run_failed", result.run_id, "hopeless")
    assert "refuse" in line["cause"]
