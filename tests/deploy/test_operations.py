"""The runbook has an answer for every alert, and names only what exists."""

import re

import pytest
from typer.main import get_command

from tests.deploy import compose
from txwatch.cli import app

RUNBOOK = (compose.PROJECT / "docs/operations.md").read_text()
HEALTH = (compose.PROJECT / "txwatch/alerts/health.py").read_text()


def test_every_condition_of_the_system_is_in_the_runbook() -> None:
    conditions = set(re.findall(r'Condition\(\s*"(\w+)"', HEALTH)) | {"run_failed:<job>"}
    assert len(conditions) >= 6
    assert {name for name in conditions if f"`{name}`" not in RUNBOOK} == set()


def test_every_rule_of_prometheus_is_in_the_runbook() -> None:
    rules = compose.PROJECT / "deploy/monitoring/rules.yml"
    if not rules.exists():
        pytest.skip("this build has no deploy/monitoring")
    names = set(re.findall(r"- alert: (\w+)", rules.read_text()))
    assert {name for name in names if f"`{name}`" not in RUNBOOK} == set()


def test_every_check_that_is_named_is_one() -> None:
    sources = "\n".join(path.read_text() for path in (compose.PROJECT / "blockchain_assets").glob("*.py"))
    for name in ("every_transaction_is_scored", "score_windows", "ingest_shift"):
        assert f"`{name}`" in RUNBOOK
        assert f'"{name}"' in sources


@pytest.mark.parametrize("document", ["operations.md", "scaling.md", "decisions.md"])
def test_every_command_and_file_that_is_named_exists(document: str) -> None:
    text = (compose.PROJECT / "docs" / document).read_text()
    commands = set(re.findall(r"`txwatch (\w+)", text))
    assert commands <= set(get_command(app).commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z-]+):", (compose.PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)", text)) <= targets
    for path in re.findall(r"`((?:deploy|docs|resources|blockchain_assets)/[\w./-]+)`", text):
        assert (compose.PROJECT / path).exists() or path.startswith(("deploy/secrets/", "deploy/monitoring/"))
    for link in re.findall(r"\]\((?!http)([\w./-]+)\)", text):
        assert (compose.PROJECT / "docs" / link).exists()
