"""The run launcher of one machine (dagster.yaml), which notices runs that were lost."""

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value


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
