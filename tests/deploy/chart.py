"""The Helm chart as Helm renders it, and the pods in it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

import dagster as dg
import pytest
import yaml
from dagster._config import post_process_config, resolve_to_config_type
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.launcher import LaunchRunContext
from dagster_k8s import K8sRunLauncher

from tests.deploy.compose import PROJECT

CHART = PROJECT / "deploy/kubernetes/chart"
HELM = PROJECT / ".tools/kubernetes/helm"
VALIDATE = PROJECT / ".tools/kubernetes-validate/bin/kubernetes-validate"
KUBERNETES = "1.35"
NO_HELM = "Helm and the schemas are not here: make kubernetes"
VALUES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
"""The installations that are rendered, by the names of their values."""
OPERATORS = "monitoring.coreos.com/"
"""Objects of the Prometheus operator, which have no schema here."""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What Helm says. Skips the test where it is not."""
    if not (HELM.exists() and VALIDATE.exists()):
        pytest.skip(NO_HELM)
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True, check=False)


@cache
def rendered(values: str) -> tuple[dict[str, Any], ...]:
    """The objects of an installation."""
    done = helm("template", "txwatch", str(CHART), "--namespace", "watch", "--values", str(CHART / f"ci/{values}.yaml"))
    assert done.returncode == 0, done.stderr
    return tuple(loaded for loaded in yaml.safe_load_all(done.stdout) if loaded)


def of_kind(values: str, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind by their names without the release's."""
    return {
        one["metadata"]["name"].removeprefix("txwatch-"): one for one in rendered(values) if one["kind"] == kind
    }  # fmt: skip


class Pod(NamedTuple):
    """A pod as one of the installation's objects would make it."""

    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """Its only container."""
        [container] = self.spec["containers"]
        return dict(container)

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Its environment by name."""
        return {one["name"]: one for one in self.container["env"]}

    @property
    def secrets(self) -> set[str]:
        """The variables whose values come from secrets."""
        return {name for name, one in self.variables.items() if "secretKeyRef" in one.get("valueFrom", {})}


def instance(values: str) -> dict[str, Any]:
    """The cluster's part of dagster.yaml."""
    loaded: dict[str, Any] = yaml.safe_load(of_kind(values, "ConfigMap")["instance"]["data"]["dagster.yaml"])
    return loaded


@cache
def job_of_a_run(values: str) -> dict[str, Any]:
    """The Job that Dagster's launcher asks Kubernetes for, by the configuration in the chart."""
    stated = instance(values)["run_launcher"]["config"]
    with TemporaryDirectory() as folder, kubernetes() as (url, asked), dg.DagsterInstance.local_temp() as dagster:
        access = Path(folder) / "kubeconfig"
        access.write_text(KUBECONFIG.format(url=url))
        stated |= {"load_incluster_config": False, "kubeconfig_file": str(access)}
        processed = post_process_config(resolve_to_config_type(K8sRunLauncher.config_type()), stated)
        assert processed.success, processed.errors
        launcher = K8sRunLauncher.from_config_value(None, processed.value)
        launcher.register_instance(dagster)
        run = dagster.create_run_for_job(a_job, job_code_origin=reconstructable(a_job).get_python_origin())
        launcher.launch_run(LaunchRunContext(run, None))
    [(path, job)] = asked
    assert path == "/apis/batch/v1/namespaces/watch/jobs"
    return job


@dg.job
def a_job() -> None:
    """Any."""


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


@contextmanager
def kubernetes(address: str = "127.0.0.1") -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server that takes every object, by its URL, and what it was asked to make: path and object."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, made))
            answer = json.dumps(made).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((address, 0), Takes) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def pods(values: str) -> dict[str, Pod]:
    """The pods of an installation by component, those of runs too."""
    makers = [*of_kind(values, "Deployment").values(), *of_kind(values, "Job").values(), job_of_a_run(values)]
    found = {}
    for maker in makers:
        template = maker["spec"]["template"]
        labels = template["metadata"]["labels"]
        found[labels["app.kubernetes.io/component"]] = Pod(labels, template["spec"])
    return found


def validated(folder: Path, objects: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """What Kubernetes's schemas say of these objects."""
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    check = [str(VALIDATE), "--strict", "--quiet", "-k", KUBERNETES, str(file)]
    return subprocess.run(check, capture_output=True, text=True, check=False)
