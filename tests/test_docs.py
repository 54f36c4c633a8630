"""What the documentation names is there: files, the steps of the two walks, and Dagster's concepts where it says."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FOLDERS = "txwatch|blockchain_assets|sensors|resources|feature_repo|tests|benchmarks|deploy"
NAMED = re.compile(rf"`((?!deploy/secrets)(?:{FOLDERS})/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_step_of_the_two_walks_names_its_file() -> None:
    architecture = (PROJECT / "docs/architecture.md").read_text()
    for title in "## One transaction, from the socket to Telegram", "## The window lane":
        section = architecture.split(title)[1].split("\n## ")[0]
        steps = [line for line in section.splitlines() if line.startswith("| ")][2:]
        assert len(steps) > 8
        assert [step for step in steps if not NAMED.search(step)] == []


def test_every_concept_of_dagster_is_used_in_the_file_that_its_line_links_to() -> None:
    page = (PROJECT / "docs/dagster.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| ") and "](../" in line]
    assert len(lines) > 30
    for line in lines:
        concept, files, why = (cell.strip() for cell in line.strip("|").split(" | "))
        linked = re.findall(r"\]\(\.\./([\w./]+)\)", files)
        assert linked, concept
        assert why, concept
        for name in re.findall(r"`@?(dg\.\w+|add_asset_metadata)`", concept):
            assert any(name in (PROJECT / path).read_text() for path in linked), f"{name} in {files}"
