"""Every link of the pages leads somewhere, in the repository and in the site that `make docs` builds."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
"""What a browser asks for by itself when it shows a page."""


def outside_of_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL))


def links(page: Path) -> list[str]:
    text = outside_of_code(page.read_text())
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings as GitHub makes them: a second one of the same words ends in -1."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE
    ):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        count = found[name] = found.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and the names that links to it may end in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if LOADED.get(tag) in given:
            self.loads.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "docs", folder / "docs")
    shutil.copy(PROJECT / "zensical.toml", folder)
    build = [str(Path(sys.executable).parent / "zensical"), "build", "--clean", "--strict"]
    assert " ".join(build[1:]) in (PROJECT / "Makefile").read_text()
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stderr
    return folder / "site"


def pages_of(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Page(path.read_text())


def test_the_site_has_every_page_and_its_order_names_each(site: Path) -> None:
    order = (PROJECT / "zensical.toml").read_text()
    for page in (PROJECT / "docs").rglob("*.md"):
        name = str(page.relative_to(PROJECT / "docs"))
        assert f'"{name}"' in order, name
        assert (site / re.sub("README$", "index", name.removesuffix(".md"))).with_suffix(".html").exists()


def test_every_link_of_the_site_leads_to_a_page_a_name_or_a_file_of_the_repository(site: Path) -> None:
    pages = dict(pages_of(site))
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # shown under any address, so that its links are those of the root
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme in {"https", "mailto"} or parts.hostname == "127.0.0.1", link
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() and target.is_relative_to(site) else target
            if not target.is_relative_to(site):
                target = PROJECT / target.relative_to(site.parent)
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].names, f"{path.name}: {link}"


def test_no_page_of_the_site_asks_another_server_for_anything(site: Path) -> None:
    for path, page in pages_of(site):
        assert [load for load in page.loads if urlsplit(load).netloc] == [], path.name
    for style in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", style.read_text()) == [], style.name
