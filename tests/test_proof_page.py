"""The pages name files, commands and figures that are there."""

import re
from pathlib import Path

import pytest

from benchmarks import record

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
FOLDERS = "txwatch|tests|benchmarks|sensors|resources|feature_repo|blockchain_assets"
SPEED_OR_SIZE = re.compile(
    r"\b\d[\d.,]*\d?\s(?:ms|us|tx/s|kB|MB|GB|TB|MB/s|requests/s|rows/s|transactions a second|a second)(?!\w)"
)
NOT_MEASURED = {
    "docs/alerts.md": {"a limit of Telegram's": {"30 a second"}},
    "docs/architecture.md": {"a constant of the code": {"250 ms"}},
    "docs/operations.md": {
        "3.2 kB by that rate": {"1.7 GB"},
        "an estimate, said to be one": {"50 MB", "4 GB"},
    },
    "docs/archive.md": {
        "a rate that sizes are told for": {"5.5 transactions a second"},
        "bytes a transaction by that rate": {"0.2 GB", "67 GB", "0.8 GB", "1.8 GB"},
    },
    "docs/scaling.md": {
        "the chain's record day": {"7.9 transactions a second"},
        "a rate that is asked about": {"10,000 tx/s", "10,000 transactions a second"},
        "a rate that is simulated": {"500 tx/s"},
        "a rule of thumb": {"200 transactions a second", "1,000 tx/s"},
        "3.2 kB by the rate that is asked about": {"32 MB", "2.8 TB"},
    },
    "docs/sources.md": {"what a node takes, by its own documentation": {"10 GB", "800 GB"}},
}
"""What pages state besides, and why the proof page cannot hold it."""
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


def test_the_proof_page_shows_what_was_measured_and_other_pages_state_it() -> None:
    """`python -m benchmarks.record` writes them."""
    page, records = record.PAGE.read_text(), record.read()
    assert record.in_page(page, records) == page
    assert records, "something was measured"
    pages = record.stating_pages()
    assert {page.name for page in pages} >= {"README.md", "scaling.md", "first-alert.md"}
    stated = 0
    for one in pages:
        text = one.read_text()
        assert record.with_figures(text, records) == text, one.name
        stated += len(record.STATED.findall(text))
    assert stated > 5


def test_a_figure_that_nothing_measures_is_refused() -> None:
    with pytest.raises(KeyError):
        record.with_figures("<!-- no_such_figure -->1 ms<!-- / -->", record.read())


def test_the_readme_states_no_figure_that_the_proof_page_does_not_hold() -> None:
    page = record.PAGE.read_text()
    stated = FIGURE.findall(without_tables_of_settings((PROJECT / "README.md").read_text()))
    assert [figure for figure in stated if figure not in page] == []


@pytest.mark.parametrize("page", record.stating_pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_page_states_a_speed_or_a_size_that_the_proof_page_does_not_hold(page: Path) -> None:
    held = record.PAGE.read_text()
    name = str(page.relative_to(PROJECT))
    stated = set(SPEED_OR_SIZE.findall(without_tables_of_settings(page.read_text())))
    not_measured = {figure for figures in NOT_MEASURED.get(name, {}).values() for figure in figures}
    assert {figure for figure in stated if figure not in held} == not_measured


def test_every_figure_that_is_not_measured_has_its_reason() -> None:
    for figures in NOT_MEASURED.values():
        assert all(reason and stated for reason, stated in figures.items())
