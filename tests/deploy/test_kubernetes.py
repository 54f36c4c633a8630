"""The chart: valid for Kubernetes, of docker-compose.yml's commands, and closed but for what each pod needs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import compose
from tests.deploy.chart import (
    CHART,
    OPERATORS,
    VALUES,
    helm,
    instance,
    job_of_a_run,
    of_kind,
    pods,
    rendered,
    validated,
)
from txwatch.settings import Settings
from txwatch.system.environment import system_environment

ALL = pytest.mark.parametrize("values", VALUES)
ONE_MACHINE: dict[str, Any] = yaml.safe_load((compose.PROJECT / "dagster.yaml").read_text())
READS = {
    "DATABASE_URL": {"api", "bot", "code", "daemon", "dashboard", "ingest", "migrate", "mlflow", "run", "webserver"},
    "TELEGRAM_BOT_TOKEN": {"bot", "code", "ingest", "run"},
    "TXWATCH_API_KEY": {"api", "dashboard"},
    "REDIS_URL": {"api", "code", "migrate", "run"},
    "BITCOIN_RPC_URL": {"code", "ingest", "run"},
    "AWS_ACCESS_KEY_ID": {"api", "code", "dashboard", "mlflow", "run"},
    "AWS_SECRET_ACCESS_KEY": {"api", "code", "dashboard", "mlflow", "run"},
}
"""Which pods read a secret."""


@ALL
def test_helm_finds_no_fault(values: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(CHART / f"ci/{values}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@ALL
def test_kubernetes_takes_every_object_and_the_job_of_a_run(values: str, tmp_path: Path) -> None:
    known = [one for one in rendered(values) if not one["apiVersion"].startswith(OPERATORS)]
    done = validated(tmp_path, [*known, job_of_a_run(values)])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert len(known) >= 19


@pytest.mark.parametrize(
    "wrong",
    ["api.keySecret=", "ingestion.as=thread", "models.s3=bucket", "settings.DATABASE_URL=x", "bot.replicaz=2"],
)
def test_values_that_cannot_be_are_refused_by_name(wrong: str) -> None:
    done = helm("template", "txwatch", str(CHART), "--set", wrong)
    assert done.returncode != 0
    assert wrong.split("=")[0].split(".")[-1] in done.stderr


@ALL
def test_its_commands_are_those_of_the_compose_file(values: str) -> None:
    services, found = compose.load()["services"], pods(values)
    for name in ("api", "bot", "daemon", "dashboard", "mlflow", "webserver"):
        assert found[name].container["args"] == [str(word) for word in services[name]["command"]]
    assert found["migrate"].container["args"] == services["init"]["command"]
    # There, a run is a pod and no process of the code server's.
    server = ["python", "-m", "blockchain_assets.platform.code_server", "--runs-elsewhere"]
    assert found["code"].container["args"][:4] == server
    assert all("command" not in pod.container for pod in found.values()), "it would replace the image's entry point"


@ALL
def test_every_pod_is_without_rights_and_writes_only_to_its_own_volumes(values: str) -> None:
    for name, pod in pods(values).items():
        assert pod.spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod.spec["automountServiceAccountToken"] is (name in {"daemon", "webserver"})
        assert "memory" in pod.container["resources"]["limits"]
        volumes = {one["name"]: one for one in pod.spec["volumes"]}
        for mount in pod.container["volumeMounts"]:
            writable = set(volumes[mount["name"]]) & {"emptyDir", "persistentVolumeClaim"}
            assert bool(writable) == (mount["mountPath"] in {"/data", "/tmp"})  # noqa: S108 - of the pod


@ALL
def test_a_secret_is_read_where_it_is_needed_and_is_never_in_the_chart(values: str) -> None:
    found = pods(values)
    for name, pod in found.items():
        assert pod.secrets <= {variable for variable, readers in READS.items() if name in readers}
        assert "envFrom" not in pod.container or not pod.container["envFrom"]
    given = {variable for pod in found.values() for variable in pod.secrets}
    for variable in given:
        assert {name for name, pod in found.items() if variable in pod.secrets} == READS[variable] & set(found)
    assert not of_kind(values, "Secret")
    assert "postgresql://" not in yaml.safe_dump_all(rendered(values))


@ALL
def test_every_variable_is_a_setting_or_is_read_by_a_library(values: str) -> None:
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    libraries = {"MLFLOW_ARTIFACTS_DESTINATION", "POD_IP", "DAGSTER_HOME", "DAGSTER_RUN_JOB_NAME"}
    for pod in pods(values).values():
        others = set(pod.variables) - settings - libraries
        assert all(name.startswith("AWS_") for name in others), others


@ALL
def test_who_is_asked_by_name_is_a_service_that_finds_its_pods_and_allows_it(values: str) -> None:
    found, services = pods(values), of_kind(values, "Service")
    for name, service in services.items():
        assert service["spec"]["selector"].items() <= found[name].labels.items()
        [port] = service["spec"]["ports"]
        [of_container] = found[name].container["ports"]
        assert (port["port"], port["targetPort"]) == (of_container["containerPort"], of_container["name"])
    for pod in found.values():
        for variable, one in pod.variables.items():
            for host, number in re.findall(r"^http://txwatch-(\w+):(\d+)$", one.get("value", "")):
                assert services[host]["spec"]["ports"][0]["port"] == int(number), variable
        assert {"txwatch-api", "txwatch-mlflow", "$(POD_IP)"} <= set(
            pod.variables["TXWATCH_ALLOWED_HOSTS"]["value"].split(",")
        )
        # An environment is expanded in its order.
        assert list(pod.variables).index("POD_IP") < list(pod.variables).index("TXWATCH_ALLOWED_HOSTS")


@ALL
def test_the_migration_comes_first_and_needs_nothing_of_the_release(values: str) -> None:
    [job] = of_kind(values, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    spec = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    assert all(set(volume) <= {"name", "emptyDir"} for volume in spec["volumes"])
    assert "TXWATCH_DAGSTER_YAML" not in {one["name"] for one in spec["containers"][0]["env"]}


@ALL
def test_each_pod_writes_an_instance_of_its_own_and_over_none_that_it_is_given(
    values: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ConfigMap is mounted where nobody can write, and the entry point writes its own with the project's sections."""
    for name, pod in pods(values).items():
        mounts = [one["mountPath"] for one in pod.container["volumeMounts"] if one["name"] == "instance"]
        assert mounts == (["/etc/txwatch"] if name in {"code", "daemon", "webserver"} else [])
        assert ("TXWATCH_DAGSTER_YAML" in pod.variables) == bool(mounts)
    # A run has the instance in its arguments.
    assert "InstanceRef" in str(pods(values)["run"].container["args"])
    given = tmp_path / "given.yaml"
    given.write_text(yaml.safe_dump(instance(values)))
    given.chmod(0o400)
    monkeypatch.setenv("TXWATCH_DAGSTER_YAML", str(given))
    home = Path(system_environment(tmp_path / "data", "postgresql:///watch")["DAGSTER_HOME"])
    merged = yaml.safe_load((home / "dagster.yaml").read_text())
    assert merged == ONE_MACHINE | instance(values)
    assert merged["concurrency"]["pools"] == ONE_MACHINE["concurrency"]["pools"]
    assert set(ONE_MACHINE["run_monitoring"]) <= set(merged["run_monitoring"])


@ALL
def test_the_feed_is_followed_by_replicas_or_by_a_run(values: str) -> None:
    found = pods(values)
    keeper = {pod.variables["TXWATCH_KEEPER"]["value"] for pod in found.values()}
    assert keeper == ({"false"} if "ingest" in found else {"true"})
    if "ingest" in found:
        assert found["ingest"].container["args"] == ["txwatch", "ingest", "--standby"]
        assert of_kind(values, "Deployment")["ingest"]["spec"]["replicas"] > 1
        assert "ingest" in of_kind(values, "PodDisruptionBudget")


@ALL
def test_models_are_kept_on_a_volume_or_in_a_bucket(values: str) -> None:
    mlflow = pods(values)["mlflow"]
    destination = mlflow.variables["MLFLOW_ARTIFACTS_DESTINATION"]["value"]
    [data] = [volume for volume in mlflow.spec["volumes"] if volume["name"] == "data"]
    assert destination.startswith("s3://") == ("emptyDir" in data)
    if "persistentVolumeClaim" in data:
        assert destination.startswith("/data/")
        claim = of_kind(values, "PersistentVolumeClaim")["models"]
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        # Two pods cannot mount it at once.
        assert of_kind(values, "Deployment")["mlflow"]["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("values", [name for name in VALUES if name != "run"])
def test_no_pod_is_reached_or_reaches_out_but_as_listed(values: str) -> None:
    found, policies = pods(values), of_kind(values, "NetworkPolicy")
    assert set(policies) >= set(found)
    for name, policy in policies.items():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        if name in found:
            assert policy["spec"]["podSelector"]["matchLabels"].items() <= found[name].labels.items()

    def reached_by(name: str) -> set[str]:
        rules = policies[name]["spec"].get("ingress", [])
        assert all(rule["from"] for rule in rules), "without peers it would be everybody"
        peers = [peer for rule in rules for peer in rule["from"] if "podSelector" in peer]
        return {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in peers}

    assert reached_by("code") == {"daemon", "webserver"}
    assert reached_by("mlflow") == {"api", "code", "dashboard", "ingest", "run"}
    for silent in ("bot", "daemon", "ingest", "migrate", "run"):
        assert "ingress" not in policies[silent]["spec"]
    for name, pod in found.items():
        targets = {
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for rule in policies[name]["spec"]["egress"]
            for peer in rule.get("to", [])
            if "podSelector" in peer
        }
        assert all(name in reached_by(target) for target in targets), name
        if name in {"code", "run", "ingest", "api"}:
            assert ("MLFLOW_TRACKING_URI" in pod.variables) == ("mlflow" in targets)


def test_the_operators_rules_are_those_of_prometheus() -> None:
    objects = {one["kind"]: one for one in rendered("s3")}
    rules = yaml.safe_load((compose.PROJECT / "deploy/monitoring/rules.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == rules
    selected = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selected.items() <= of_kind("s3", "Service")["api"]["metadata"]["labels"].items()
    # The rules ask for the job by this name.
    assert (
        of_kind("s3", "Service")["api"]["metadata"]["labels"][objects["ServiceMonitor"]["spec"]["jobLabel"]]
        == "txwatch"
    )
    [receiver] = objects["AlertmanagerConfig"]["spec"]["receivers"]
    assert receiver["name"] == objects["AlertmanagerConfig"]["spec"]["route"]["receiver"]


def test_only_what_launches_runs_may_ask_kubernetes_and_only_about_pods_and_jobs() -> None:
    [role] = of_kind("volume", "Role").values()
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert {resource for resource, _ in allowed} == {"jobs", "jobs/status", "pods", "pods/log", "events"}
    assert {resource for resource, verb in allowed if verb in {"create", "delete", "patch"}} == {"jobs"}
    assert not {verb for _, verb in allowed} & {"*", "deletecollection", "escalate", "bind"}


def test_the_chart_is_of_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (compose.PROJECT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def test_its_instance_is_one_that_dagster_takes(tmp_path: Path) -> None:
    """Of Dagster's own sections; the launcher's are taken above."""
    from dagster._core.instance.config import dagster_instance_config

    merged = ONE_MACHINE | instance("s3")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(merged))
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_launcher"]["class"] == "K8sRunLauncher"
    assert config["concurrency"]["runs"]["max_concurrent_runs"] == 8
