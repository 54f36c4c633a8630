"""The runbook has an answer for every alert, and names only what exists."""

import re

import pytest
import yaml
from typer.main import get_command

from tests.deploy import compose
from txwatch.cli import app

RUNBOOK = (compose.PROJECT / "docs/operations.md").read_text()
HEALTH = (compose.PROJECT / "txwatch/alerts/health.py").read_text()


WHAT_TO_DO = "what-to-do-when"


def name(title: str) -> str:
    """What a link to a heading ends in."""
    return title.lower().replace(" ", "-")


def sections() -> dict[str, str]:
    """What stands below each heading, by its name."""
    parts = re.split(r"^##+ (.+)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return {name(title): text for title, text in zip(parts[::2], parts[1::2], strict=True)}


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


def test_each_rule_of_prometheus_leads_to_the_section_that_names_it() -> None:
    groups = yaml.safe_load((compose.PROJECT / "deploy/monitoring/rules.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        document, _, heading = rule["annotations"]["runbook_url"].partition("#")
        assert document == "docs/operations.md"
        assert f"`{rule['alert']}`" in sections()[heading], rule["alert"]


def test_each_section_has_a_line_that_says_who_wakes_up_for_what_and_how_to_begin() -> None:
    head, _, *lines = [line for line in sections()[WHAT_TO_DO].splitlines() if line.startswith("|")]
    assert head == "| what | wake up or wait | data at risk | first command | healthy when |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(all(row) for row in cells)
    assert all(wake.startswith(("wake up", "wait", "as ")) for _, wake, *_ in cells)
    between = RUNBOOK.split("## What to do when\n")[1].split("\n### Alarms\n")[0]
    assert [re.findall(r"\(#([\w-]+)\)", row[0]) for row in cells] == [
        [name(title)] for title in re.findall(r"^### (.+)$", between, re.MULTILINE)
    ]


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
