"""The cloud's description can be read, is formatted, opens nothing to the world, and fits docker-compose.yml."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from tests.deploy import compose

FOLDER = compose.PROJECT / "deploy/terraform"
FILES = sorted(FOLDER.glob("*.tf"))


@pytest.fixture(scope="module")
def resources() -> dict[tuple[str, str], dict[str, Any]]:
    """Every resource by its type and name."""
    found = {}
    for file in FILES:
        with file.open() as text:
            for block in hcl2.load(text).get("resource", []):
                for kind, named in block.items():
                    for name, body in named.items():
                        found[kind.strip('"'), name.strip('"')] = body
    return found


def test_terraform_would_not_format_it_otherwise() -> None:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    done = subprocess.run(["terraform", "fmt", "-check", "-diff", FOLDER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_each_file_is_read_by_a_parser(file: Any) -> None:
    with file.open() as text:
        assert hcl2.load(text)


def test_every_variable_that_is_used_exists_and_every_one_that_exists_is_used() -> None:
    text = "\n".join(file.read_text() for file in FILES)
    defined = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == defined


def test_every_resource_that_is_named_exists(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    text = "\n".join(re.sub(r'"aws_\w+"', "", file.read_text()) for file in FILES)
    named = set(re.findall(r"(?<!data\.)\b(aws_\w+)\.(\w+)", text))
    data = set(re.findall(r"\bdata\.(aws_\w+)\.(\w+)", text))
    assert named - data <= set(resources)


def test_each_bucket_is_private_versioned_and_encrypted(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    for kind in (
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_versioning",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_lifecycle_configuration",
    ):
        assert "local.buckets" in str(resources[kind, "this"]["for_each"])
    block = resources["aws_s3_bucket_public_access_block", "this"]
    assert all(value is True for key, value in block.items() if key.startswith(("block_", "ignore_", "restrict_")))


def test_nothing_comes_in_but_the_host_to_the_database(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    rules = {name for kind, name in resources if kind == "aws_vpc_security_group_ingress_rule"}
    assert rules == {"database"}
    rule = resources["aws_vpc_security_group_ingress_rule", "database"]
    assert "aws_security_group.host" in str(rule["referenced_security_group_id"])
    assert not any("cidr" in key for key in rule)
    for kind, name in resources:
        if kind == "aws_security_group":
            assert not {"ingress", "egress"} & set(resources[kind, name])


def test_only_what_localstack_has_is_made_there(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    everywhere = {
        kind for (kind, _), body in resources.items() if "local.aws" not in str(body.get("count", "")) and
        "localstack" not in str(body.get("for_each", "")) and "host_files" not in str(body.get("for_each", ""))
    }  # fmt: skip
    assert {kind.split("_")[1] for kind in everywhere} == {"s3", "kms"}


def test_no_permission_is_for_everything() -> None:
    text = (FOLDER / "iam.tf").read_text()
    assert '"*"' not in text
    assert not re.search(r'"\w+:\*"', text)


def test_the_host_is_told_what_the_compose_file_reads() -> None:
    settings = re.search(r"<<'SETTINGS'\n(.*?)\nSETTINGS", (FOLDER / "user-data.sh.tftpl").read_text(), re.DOTALL)
    assert settings is not None
    names = {line.split("=")[0] for line in settings[1].splitlines()}
    over = (FOLDER / "compose.aws.yml").read_text()
    assert names - {"COMPOSE_FILE"} <= compose.variables_of_file() | set(re.findall(r"\$\{(\w+)", over))
    assert "POSTGRES_SCALE" in names


def test_the_hosts_compose_file_sends_all_logs_to_cloudwatch() -> None:
    file = FOLDER / "compose.aws.yml"
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    over = yaml.safe_load(file.read_text())["services"]
    running = {name for name, service in compose.load()["services"].items() if "profiles" not in service}
    assert set(over) == running - {"postgres"}
    assert {service["logging"]["driver"] for service in over.values()} == {"awslogs"}


def test_the_host_starts_with_a_script_that_bash_reads() -> None:
    text = re.sub(r"\$\{\w+\}", "value", (FOLDER / "user-data.sh.tftpl").read_text())
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_localstacks_buckets_are_those_that_terraform_makes() -> None:
    variables = compose.read_env_file("deploy/docker/localstack.env")
    name = re.search(r'variable "name" \{.*?default\s*= "([\w-]+)"', (FOLDER / "variables.tf").read_text(), re.DOTALL)
    assert name is not None
    assert variables["MLFLOW_ARTIFACTS_DESTINATION"].startswith(f"s3://{name[1]}-models/")
    assert variables["TXWATCH_REPORTS"].startswith(f"s3://{name[1]}-reports/")


def test_the_one_container_of_files_may_do_to_each_bucket_what_the_program_does() -> None:
    policy = re.sub(r"\s+", " ", (FOLDER / "iam.tf").read_text())
    allowed: dict[str, set[str]] = {}
    for actions, names in re.findall(r"actions = \[([^]]*)\] resources = \[ for name in \[([^]]*)\]", policy):
        for bucket in re.findall(r'"(\w+)"', names):
            allowed.setdefault(bucket, set()).update(re.findall(r"s3:\w+", actions))
    kept = {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    forgotten = kept | {"s3:DeleteObject"}
    assert allowed == {"models": forgotten, "captures": kept}
    host = policy[policy.index('"aws_iam_policy_document" "host"') : policy.index('"aws_iam_role_policy" "host"')]
    assert set(re.findall(r"s3:\w+", host)) == {"s3:ListBucket", "s3:GetObject"}
    assert '["config"].arn' in host


NO_PROVIDER = "Terraform's provider for AWS cannot be had here"


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what Terraform reads, initialised; TF_CLI_ARGS_init may name a folder with its provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(compose.PROJECT / "deploy", checkout / "deploy", ignore=shutil.ignore_patterns("secrets", "*.lock"))
    shutil.copy(compose.FILE, checkout)
    done = terraform(checkout / "deploy/terraform", "init", "-input=false", "-backend=false")
    if done.returncode != 0:
        pytest.skip(NO_PROVIDER)
    return checkout / "deploy/terraform"


def terraform(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        ["terraform", *arguments, "-no-color"], cwd=folder, env=quiet | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    """A server that answers as Amazon does."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def planned(folder: Path, amazon: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """What Terraform says it would make."""
    given = [f"-var={variable}" for variable in ("name=watch-test", *variables)]
    return terraform(
        folder, "plan", "-input=false", "-out=plan", *given,
        AWS_ENDPOINT_URL=amazon, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test",
        AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip


def test_terraform_finds_it_valid(configuration: Path) -> None:
    done = terraform(configuration, "validate")
    assert done.returncode == 0, done.stdout + done.stderr


def test_somebody_must_get_the_alarms(configuration: Path, amazon: str) -> None:
    done = planned(configuration, amazon)
    assert done.returncode != 0
    assert "Somebody must get the alarms" in done.stderr


@pytest.mark.parametrize(("instance", "architecture"), [("m7g.xlarge", "arm64"), ("m6i.xlarge", "x86_64")])
def test_what_would_be_made_fits_either_architecture_and_gives_containers_no_role(
    configuration: Path, amazon: str, instance: str, architecture: str
) -> None:
    done = planned(configuration, amazon, "alarm_email=a@example.org", f"instance_type={instance}")
    assert done.returncode == 0, done.stderr
    plan = json.loads(terraform(configuration, "show", "-json", "plan").stdout)
    made = {one["address"]: one["change"]["after"] for one in plan["resource_changes"]}
    host, database = made["aws_instance.host[0]"], made["aws_db_instance.this[0]"]
    [metadata] = host["metadata_options"]
    assert (metadata["http_tokens"], metadata["http_put_response_hop_limit"]) == ("required", 1)
    assert (database["engine_version"], made["aws_db_parameter_group.this[0]"]["family"]) == ("18", "postgres18")
    assert database["iam_database_authentication_enabled"] is True
    assert made["aws_sns_topic_subscription.email[0]"]["endpoint"] == "a@example.org"
    state = {one["address"]: one["values"] for one in plan["prior_state"]["values"]["root_module"]["resources"]}
    assert state["data.aws_ssm_parameter.ami[0]"]["name"].endswith(architecture)
    # Everything that starts the host is put where it fetches it from.
    assert {"deploy/terraform/host/start", "deploy/terraform/host/refresh", "docker-compose.yml"} <= {
        one["index"] for one in plan["resource_changes"] if one["address"].startswith("aws_s3_object.host")
    }
