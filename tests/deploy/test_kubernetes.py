"""The Helm values name what exists, agree with dagster.yaml, and configure a launcher that Dagster takes."""

from typing import Any

import pytest
import yaml
from dagster._config import post_process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher

from tests.deploy import compose

VALUES: dict[str, Any] = yaml.safe_load((compose.PROJECT / "deploy/kubernetes/values.yaml").read_text())
ONE_MACHINE: dict[str, Any] = yaml.safe_load((compose.PROJECT / "dagster.yaml").read_text())


def snake(name: str) -> str:
    """A key of the chart as Dagster spells it."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_the_launcher_takes_its_configuration() -> None:
    chart = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    configuration = {snake(key): value for key, value in chart.items() if key not in {"envSecrets", "runK8sConfig"}}
    configuration["env_secrets"] = [secret["name"] for secret in chart["envSecrets"]]
    configuration["run_k8s_config"] = {
        snake(part): {snake(key): value for key, value in inner.items()}
        for part, inner in chart["runK8sConfig"].items()
    }
    stated = {"service_account_name": "txwatch", "instance_config_map": "instance", "dagster_home": "/data/dagster"}
    processed = post_process_config(resolve_to_config_type(K8sRunLauncher.config_type()), configuration | stated)
    assert processed.success, processed.errors


def test_pools_and_retention_are_those_of_one_machine() -> None:
    there, here = VALUES["additionalInstanceConfig"]["concurrency"], ONE_MACHINE["concurrency"]
    assert there["pools"] == here["pools"]
    ticks = VALUES["retention"]["sensor"]["purgeAfterDays"]
    assert ONE_MACHINE["retention"]["sensor"]["purge_after_days"].items() <= ticks.items()


def test_the_chart_is_of_the_version_of_dagster_that_is_locked() -> None:
    text = (compose.PROJECT / "deploy/kubernetes/values.yaml").read_text()
    locked = next(
        line
        for line in (compose.PROJECT / "requirements.lock").read_text().splitlines()
        if line.startswith("dagster==")
    )
    assert f"--version {locked.split('==')[1].split()[0]} " in text


def test_its_commands_are_those_of_the_compose_file() -> None:
    services = compose.load()["services"]
    deployments = [manifest for manifest in VALUES["extraManifests"] if manifest["kind"] == "Deployment"]
    for manifest in deployments:
        [container] = manifest["spec"]["template"]["spec"]["containers"]
        assert container["args"] == [str(word) for word in services[container["name"]]["command"]]
    [code] = VALUES["dagster-user-deployments"]["deployments"]
    # The chart gives the arguments of `dagster api grpc`; there, a run is a pod and no process of the code server's.
    assert code["dagsterApiGrpcArgs"][:2] == ["-m", "blockchain_assets.definitions"]


def test_the_services_that_are_asked_by_name_allow_it() -> None:
    services = {m["metadata"]["name"]: m for m in VALUES["extraManifests"] if m["kind"] == "Deployment"}
    for name in ("api", "mlflow"):
        [container] = services[name]["spec"]["template"]["spec"]["containers"]
        stated = {variable["name"]: variable["value"] for variable in container["env"]}
        assert name in stated["TXWATCH_ALLOWED_HOSTS"].split(",")


@pytest.mark.parametrize("manifest", VALUES["extraManifests"], ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_a_service_finds_the_pods_of_its_name(manifest: dict[str, Any]) -> None:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    if manifest["kind"] == "Service":
        assert spec["selector"] == {"app": name}
    else:
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == {"app": name}
        assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
