"""A run whose code server is gone is noticed, by a real code server that has never heard of it."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from blockchain_assets.platform import health_probe
from blockchain_assets.platform.launcher import WatchedRunLauncher
from tests.conftest import Installation
from tests.ports import free_port
from tests.waiting import wait_until


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def code_port(installation: Installation) -> Iterator[int]:
    """The port of a code server."""
    port = free_port()
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "blockchain_assets.definitions"]
    with subprocess.Popen([*command, "-h", "127.0.0.1", "-p", str(port)], env=installation.environment) as server:
        try:
            wait_until(lambda: listens(port), "the code server listens")
            yield port
        finally:
            server.kill()  # it has nothing to save


def test_a_code_server_says_whether_it_serves(code_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    wait_until(lambda: health_probe.main("127.0.0.1", str(code_port)) == 0, "the code server serves")
    assert health_probe.main("127.0.0.1", str(free_port())) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def started_at(instance: dg.DagsterInstance, port: int) -> dg.DagsterRun:
    @dg.job
    def long() -> None: ...

    tag = json.dumps({"host": "127.0.0.1", "port": port})
    return instance.create_run_for_job(long, tags={GRPC_INFO_TAG: tag}, status=dg.DagsterRunStatus.STARTED)


def test_a_run_that_its_code_server_does_not_know_has_failed(
    dagster_instance: dg.DagsterInstance, code_port: int
) -> None:
    launcher = dagster_instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher), "dagster.yaml names it"
    assert launcher.supports_check_run_worker_health
    found = launcher.check_run_worker_health(started_at(dagster_instance, code_port))
    assert found.status is WorkerStatus.FAILED


def test_a_code_server_that_does_not_answer_says_nothing_of_its_runs(dagster_instance: dg.DagsterInstance) -> None:
    launcher = dagster_instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    with pytest.raises(DagsterUserCodeUnreachableError):
        launcher.check_run_worker_health(started_at(dagster_instance, free_port()))
