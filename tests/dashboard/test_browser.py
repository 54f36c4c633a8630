"""The pages in a real browser: at the widths of a desk and a phone, in the light and in the dark, and by keyboard."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.dashboard.pages import PAGES
from tests.populated import CHAT, Populated
from tests.ports import free_port
from tests.serving import KEY, TOKEN, serving, settings_of
from tests.waiting import PATIENCE_SECONDS, answers, wait_until
from txwatch.clock import utc_now
from txwatch.store.database import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]
WITHOUT_CHART = {"cases", "rules", "channels", "search"}
OWN_KEY = "input[aria-label='Your key']"
MAIN = "document.querySelector('[data-testid=stMain]')"


@pytest.fixture(scope="module")
def dashboard(populated: Populated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real server, as `txwatch dashboard` starts it, with the API behind it."""
    port = free_port()
    log = (tmp_path_factory.mktemp("dashboard") / "log").open("w")
    with serving(settings_of(populated.database_url, populated.home)) as api:
        environment = os.environ | {
            "DATABASE_URL": populated.database_url,
            "TXWATCH_HOME": str(populated.home),
            "TXWATCH_API_URL": api,
            "TXWATCH_API_KEY": KEY,
            "TELEGRAM_BOT_TOKEN": TOKEN,
        }
        command = [sys.executable, "-m", "txwatch", "dashboard", f"--port={port}"]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            try:
                health = f"http://127.0.0.1:{port}/_stcore/health"
                wait_until(lambda: answers(health) or process.poll() is not None, "the dashboard answers")
                assert process.poll() is None, "it ended: see its log"
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
    log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_SECONDS * 1_000
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def txid(populated: Populated) -> str:
    """An unusual transaction with an alert."""
    with connect(populated.database_url) as connection:
        row = connection.execute(
            "SELECT alert_key FROM alerts WHERE alert_key !~ ':' AND seen_at > now() - interval '1 hour'"
            " ORDER BY seen_at LIMIT 1"
        ).fetchone()
    assert row is not None
    return str(row[0])


def opened(browser: Any, width: int = 1400, scheme: str = "light") -> Any:
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1_000)
    return page


def settled(page: Any, title: str) -> None:
    """Wait until the page has this title and has done what it was asked for."""
    page.get_by_role("heading", name=title, exact=True).wait_for()
    # What was drawn again fades in, and is pale meanwhile.
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidgetRunningIcon]')")
    page.wait_for_function("!document.querySelector('[data-testid=stMain] [data-stale=true]')")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_every_page_is_whole_and_accessible(dashboard: str, browser: Any, txid: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(browser, width, scheme)
    # What ends at a moment is not drawn again, which would fade it in between.
    until = utc_now() + timedelta(minutes=1)
    for path, title in PAGES.items():
        query = {"transaction": f"&txid={txid}", "search": f"&q={txid[:8]}"}.get(path, "")
        page.goto(f"{dashboard}/{path}?until={until:%Y-%m-%dT%H:%M}{query}")
        settled(page, title)
        if path not in WITHOUT_CHART:
            charts = page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")
            charts.first.wait_for()
        assert page.locator("[data-testid=stException]").count() == 0, path
        assert page.get_by_text("Page not found").count() == 0, path
        assert page.evaluate(f"{MAIN}.scrollWidth <= {MAIN}.clientWidth"), f"{path} is wider than the screen"
        cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert page.evaluate(cut) == 0, f"a table of {path} is cut"
        text = page.content()
        for secret in (KEY, TOKEN, CHAT):
            assert secret not in text
        serious = [
            (one["id"], node["html"], [reason["message"] for reason in node["any"]])
            for one in Axe().run(page).response["violations"]
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]
        assert serious == [], path
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_take_the_theme_of_the_browser(dashboard: str, browser: Any, scheme: str) -> None:
    from txwatch.dashboard.palette import GROUND

    page = opened(browser, scheme=scheme)
    page.goto(dashboard)
    settled(page, "Now")
    page.locator(".tile").first.wait_for()
    ground = page.evaluate("getComputedStyle(document.querySelector('.tile')).backgroundColor")
    r, g, b = (int(GROUND[scheme == "dark"][i : i + 2], 16) for i in (1, 3, 5))
    assert ground == f"rgb({r}, {g}, {b})"
    page.context.close()


def test_the_time_shown_is_in_the_address_and_stays_on_every_page(dashboard: str, browser: Any) -> None:
    page = opened(browser)
    page.goto(f"{dashboard}/?span=6h")
    settled(page, "Now")
    page.get_by_text("in the last 6 hours").first.wait_for()
    for name, title in (("Whales", "Whales"), ("Cases", "Cases"), ("Unusual", "Unusual transactions")):
        page.get_by_role("link", name=name, exact=True).click()
        settled(page, title)
        assert "span=6h" in page.url, f"{name} forgot the time"
    page.locator("a.mono").first.wait_for()
    page.locator("a.mono").first.click()
    settled(page, "One transaction")
    assert "span=6h" in page.url
    page.goto(f"{dashboard}/feed?span=1h&until=2024-03-14T12:00")
    settled(page, "Feed quality")
    page.get_by_text("No transaction was seen in the hour until 14 Mar 12:00 UTC").wait_for()
    page.context.close()


def test_a_key_is_typed_once_for_all_pages_and_shows_the_channels(dashboard: str, browser: Any) -> None:
    page = opened(browser)
    page.goto(f"{dashboard}/channels")
    settled(page, "Channels")
    page.locator(OWN_KEY).fill(KEY)
    page.locator(OWN_KEY).press("Enter")
    page.get_by_text("No channel yet.").wait_for()
    for name in ("Now", "Rules"):
        page.get_by_role("link", name=name, exact=True).click()
        settled(page, name)
    assert page.locator(OWN_KEY).input_value() == KEY
    page.goto(f"{dashboard}/rules")
    settled(page, "Rules")
    assert page.locator(OWN_KEY).input_value() == "", "another visit has its own"
    page.context.close()


def test_the_search_is_reached_by_keyboard_from_every_page(dashboard: str, browser: Any, txid: str) -> None:
    page = opened(browser)
    page.goto(f"{dashboard}/rules")
    settled(page, "Rules")
    page.get_by_label("Search").wait_for()
    at_search = "document.activeElement.getAttribute('aria-label') === 'Search'"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(at_search):
            break
    assert page.evaluate(at_search), "thirty times Tab do not lead to the search"
    page.keyboard.type(txid)
    page.keyboard.press("Enter")
    settled(page, "One transaction")
    page.get_by_text(txid, exact=True).first.wait_for()
    page.get_by_label("Search").fill(txid[:10])
    page.keyboard.press("Enter")
    settled(page, "Search")
    page.get_by_role("link", name=txid[:10]).first.wait_for()
    page.context.close()
