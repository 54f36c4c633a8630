"""The workflows follow their schema, pin what they use, and call only what the Makefile has; hooks are `make lint`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.compose import PROJECT

WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
PYTHONS = ["3.11", "3.12", "3.13"]


def steps(workflow: Path) -> list[dict[str, Any]]:
    loaded = yaml.safe_load(workflow.read_text())
    return [step for job in loaded["jobs"].values() for step in job["steps"]]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_follows_the_schema(workflow: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_to_a_commit_and_the_version_is_said(workflow: Path) -> None:
    used = [line for line in workflow.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_may_read_only_unless_a_job_says_more(workflow: Path) -> None:
    loaded = yaml.safe_load(workflow.read_text())
    assert loaded["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in loaded["jobs"].values())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_target_of_make_exists(workflow: Path) -> None:
    called = {
        target
        for step in steps(workflow)
        for line in str(step.get("run", "")).splitlines()
        if line.startswith("make ")
        for target in line.split()[1:]
    }
    assert called <= makefile_targets()


def test_all_supported_pythons_are_tested() -> None:
    loaded = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
    assert loaded["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert '">=3.11,<3.14"' in (PROJECT / "pyproject.toml").read_text()


def test_the_hooks_are_the_commands_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    linted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == linted


def test_the_test_command_names_debians_programs() -> None:
    script = PROJECT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    for program in ("chromium", "redis-server", "prometheus"):
        assert program in script.read_text()


def test_a_release_holds_wheel_materials_and_checksums_and_says_its_version_and_commit() -> None:
    recipe = re.search(r"^dist:.*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    for part in ("build_wheel", "cyclonedx-py", "$(LABEL).version=$(VERSION)", "$(LABEL).revision=", "SHA256SUMS"):
        assert part in recipe[1]
    release = (PROJECT / ".github/workflows/release.yml").read_text()
    for label in ("version=${{ github.ref_name }}", "revision=${{ github.sha }}"):
        assert f"org.opencontainers.image.{label}" in release
    assert "--generate-notes dist/*" in release
