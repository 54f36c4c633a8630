"""The pages name files, commands and figures that are there."""

import re
from pathlib import Path

import pytest

from benchmarks import record

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FOLDERS = "txwatch|tests|benchmarks|sensors|resources|feature_repo|blockchain_assets"
FIGURE = re.compile(r"\b\d[\d.,]*\d?\s(?:ms|tx/s|%|MB|GB|BTC/s|requests/s|rows/s)(?!\w)")


def without_tables_of_settings(text: str) -> str:
    return re.sub(r"<!-- settings -->.*?<!-- /settings -->", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'src="([^"]+)"', text)
    assert [link for link in linked if not (page.parent / link).exists()] == []
    named = re.findall(
        r"`((?:txwatch|tests|benchmarks|sensors|resources|feature_repo|blockchain_assets)/[^`\s*]*)`", text
    )
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_the_proof_page_shows_what_was_measured() -> None:
    """`python -m benchmarks.record` writes it."""
    page = record.PAGE.read_text()
    assert record.in_page(page, record.read()) == page
    assert record.read(), "something was measured"


def test_the_readme_states_no_figure_that_the_proof_page_does_not_hold() -> None:
    page = record.PAGE.read_text()
    stated = FIGURE.findall(without_tables_of_settings((PROJECT / "README.md").read_text()))
    assert [figure for figure in stated if figure not in page] == []
