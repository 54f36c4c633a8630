"""Every container of the chart, started here by its rendered arguments in its rendered environment, as one system.

A cluster is not needed: services are on loopback, the values of secrets are the test's, and a server takes the jobs
that Dagster asks Kubernetes for. The job of a run is then started as its pod would start it.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.databases import copied_database
from tests.deploy.chart import KUBECONFIG, Pod, instance, kubernetes, pods
from tests.deploy.compose import ENTRYPOINT, PROJECT
from tests.deploy.conftest import Record
from tests.deploy.processes import Processes
from tests.ports import is_used
from tests.waiting import wait_until
from txwatch.store.database import connect, scalar

pytestmark = pytest.mark.deploy

PORTS = [3000, 3030, 5000, 8000, 8502, 8765]
STARTED = "each container of the chart by its manifest, and the job of a run, on this machine"
VALUES = "run"
"""The installation whose ingestion is a run."""


class Node:
    """This machine as a node of the cluster."""

    def __init__(self, folder: Path, secrets: dict[str, str], processes: Processes) -> None:
        self._folder, self._secrets, self._processes = folder, secrets, processes

    def here(self, text: str, name: str) -> str:
        """The text with what only exists in the cluster replaced."""
        text = re.sub(r"txwatch-[a-z]+(?=[:,]|$)", "127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        text = text.replace("/opt/txwatch/share/txwatch", str(PROJECT)).replace("$(POD_IP)", "127.0.0.1")
        text = text.replace("/etc/txwatch", str(self._folder / "instance"))
        return re.sub(r"^/data\b", str(self._folder / name), text)

    def environment(self, name: str, pod: Pod) -> dict[str, str]:
        """What the container's processes see. Fails for a secret that the test does not know."""
        given = {}
        for one in pod.container["env"]:
            if "value" in one:
                given[one["name"]] = self.here(one["value"], name)
            elif "secretKeyRef" in one["valueFrom"]:
                given[one["name"]] = self._secrets[one["name"]]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        feed = {"TXWATCH_STREAM_URL": "ws://127.0.0.1:8765/inv", "TXWATCH_REST_URL": "http://127.0.0.1:8765"}
        home = self._folder / name
        home.mkdir(exist_ok=True)
        return {"PATH": path, "PYTHONPATH": str(PROJECT), "HOME": str(home), **feed, **given}

    def command(self, name: str, words: list[str]) -> list[str]:
        here = [self.here(word, name) for word in words]
        return [sys.executable if word == "python" else word for word in here]

    def start(self, name: str, pod: Pod) -> None:
        command = self.command(name, [*ENTRYPOINT, *pod.container["args"]])
        self._processes.start(name, command, self.environment(name, pod), self._folder)

    def wait(self, name: str, pod: Pod) -> None:
        """Return once the container's own startup probe passes."""

        def passes() -> bool:
            assert self._processes.running[name].poll() is None, self._processes.tail(name)
            return self._passes(name, pod, pod.container["startupProbe"])

        wait_until(passes, f"the probe of {name}", look_every=1.0)

    def _passes(self, name: str, pod: Pod, probe: dict[str, Any]) -> bool:
        if "httpGet" in probe:
            port = pod.container["ports"][0]["containerPort"]
            try:
                # By its address, as the kubelet asks.
                return httpx.get(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=30).is_success
            except httpx.HTTPError:
                return False
        log = f"probe of {name}"
        self._processes.start(
            log, self.command(name, probe["exec"]["command"]), self.environment(name, pod), self._folder
        )
        return self._processes.running.pop(log).wait() == 0


def test_the_release_migrates_serves_and_follows_the_feed_by_the_job_of_a_run(
    server_url: str, tmp_path: Path, record: Record
) -> None:
    if taken := [port for port in PORTS if is_used(port)]:
        pytest.skip(f"ports {taken} of this machine are in use")
    found = pods(VALUES)
    url = copied_database(server_url, "template0")
    with record("started", STARTED), Processes(tmp_path / "logs") as processes, kubernetes() as (api, asked):
        node = Node(tmp_path, {"DATABASE_URL": url, "TXWATCH_API_KEY": "k" * 24}, processes)
        (tmp_path / "instance").mkdir()
        access = tmp_path / "kubeconfig"
        access.write_text(KUBECONFIG.format(url=api))
        given = instance(VALUES)
        given["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(access)}
        (tmp_path / "instance/dagster.yaml").write_text(yaml.safe_dump(given))
        feed = [sys.executable, "-m", "txwatch", "feed", "--port=8765", "--rate=20"]
        processes.start("feed", feed, node.environment("feed", found["bot"]), tmp_path)

        node.start("migrate", found["migrate"])
        assert processes.running["migrate"].wait() == 0, processes.tail("migrate")
        for name in ("mlflow", "code", "webserver", "daemon", "api", "dashboard"):
            node.start(name, found[name])
            node.wait(name, found[name])
        node.start("bot", found["bot"])

        wait_until(lambda: asked, "Dagster asks for the job of a shift", look_every=0.5)
        path, job = asked[0]
        assert path.endswith("/jobs")
        run = Pod({}, job["spec"]["template"]["spec"])
        assert "ingest_shift" in str(run.container["env"])
        node.start("run", run)

        def followed() -> bool:
            assert processes.running["run"].poll() is None, processes.tail("run")
            with connect(url) as connection:
                return bool(scalar(connection, "SELECT count(*) FROM transactions WHERE source <> 'bulk'"))

        wait_until(followed, "the run follows the feed", look_every=0.5)
        for name in ("bot", "daemon", "code"):
            assert processes.running[name].poll() is None, processes.tail(name)
        assert "bot_waits" in processes.log("bot").read_text()
