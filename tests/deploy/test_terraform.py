"""The cloud's description can be read, is formatted, opens nothing to the world, and fits docker-compose.yml."""

import re
import shutil
import subprocess
import sys
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


def test_the_host_may_do_to_each_bucket_what_the_program_does() -> None:
    policy = re.sub(r"\s+", " ", (FOLDER / "iam.tf").read_text())
    allowed: dict[str, set[str]] = {}
    for actions, names in re.findall(r"actions = \[([^]]*)\] resources = \[ for name in \[([^]]*)\]", policy):
        for bucket in re.findall(r'"(\w+)"', names):
            allowed.setdefault(bucket, set()).update(re.findall(r"s3:\w+", actions))
    kept = {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    forgotten = kept | {"s3:DeleteObject"}
    assert allowed == {"models": forgotten, "captures": kept, "reports": forgotten}
    assert 'actions = ["s3:ListBucket"]' in policy
