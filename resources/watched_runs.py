"""Runs on this machine: Dagster's own launcher, with a health check that notices a lost code server.

`dagster.yaml` names it.
"""

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value


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
