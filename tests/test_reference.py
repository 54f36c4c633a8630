"""The reference pages say what the code says: `python -m txwatch.reference` writes them."""

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.populated import Populated
from tests.serving import serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.api.app import create_app
from txwatch.metric_families import FAMILIES
from txwatch.reference.__main__ import PAGES
from txwatch.reference.commands import all_commands, commands_page
from txwatch.reference.routes import routes_page
from txwatch.reference.settings import PROJECT
from txwatch.reference.stored import ROWS, metrics_page, tables_page
from txwatch.settings import Settings
from txwatch.store.schema import metadata


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == PAGES[path](), "write it anew: python -m txwatch.reference"


def test_every_page_of_the_folder_is_written_from_the_code() -> None:
    assert set((PROJECT / "docs/reference").iterdir()) <= set(PAGES)


def test_every_metric_that_is_served_is_on_the_page_with_its_labels(populated: Populated) -> None:
    with serving(settings_of(populated.database_url, populated.home)) as address:
        answer = httpx.get(f"{address}/metrics", timeout=PATIENCE_SECONDS).raise_for_status()
    served = {one.name: one for one in text_string_to_metric_families(answer.text) if one.name.startswith("txwatch_")}
    assert len(served) > 25
    # This format has no type for what only has labels.
    types = {name if FAMILIES[name].type != "info" else f"{name}_info": name for name in FAMILIES}
    assert set(served) <= set(types)
    for shown, family in served.items():
        name = types[shown]
        assert family.type == FAMILIES[name].type.replace("info", "gauge")
        assert family.documentation == FAMILIES[name].text
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(FAMILIES[name].labels)
    samples = {sample.name for family in served.values() for sample in family.samples}
    told = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|info)", metrics_page(), re.MULTILINE))
    histograms = {f"{name}_{end}" for name in FAMILIES for end in ("bucket", "count", "sum")}
    assert samples - histograms <= told


def test_every_route_that_is_served_is_on_the_page() -> None:
    paths = create_app(Settings(DATABASE_URL="postgresql:///nowhere")).openapi()["paths"]
    served = {f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^\| (`[A-Z]+ [^`]+`)", routes_page(), re.MULTILINE)) == served
    assert "`/v1/stream/ws` (WebSocket)" in routes_page()


def test_every_table_says_what_a_row_is() -> None:
    assert {name for name in ROWS if name not in metadata.tables} == set()
    page = tables_page()
    for table in metadata.tables.values():
        assert table.name in ROWS or table.comment, table.name
        assert f"\n## {table.name}\n\nA row: " in page


def test_every_command_has_a_section_with_its_options() -> None:
    page = commands_page()
    names = [name for name, _ in all_commands()]
    assert {"demo", "rules dry-run", "channels add", "evaluate-day"} <= set(names)
    for name, command in all_commands():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            assert f"| `{parameter.opts[0] if '-' in parameter.opts[0] else parameter.name.upper()}" in section
