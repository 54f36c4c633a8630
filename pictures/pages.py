"""Pictures of the pages of a system that runs: the dashboard in two widths, messages as a phone shows them, Dagster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx
import msgspec
from playwright.sync_api import Page, sync_playwright

from txwatch.lab.simulator.telegram import ReceivedMessage

WIDE, NARROW, HEIGHT, HIGHEST = 1400, 400, 900, 2000
"""Pixels of a page."""
GRAPH_WIDTH, GRAPH_HEIGHT, BELOW = 2700, 860, 120
"""Pixels, so that each of Dagster's assets is shown with its state; below the graph nothing is to be seen."""
GROUPS = ("ingestion", "features", "models", "detection")
OPENED = "global@global:{}"
"""How Dagster's page names a group that is opened."""
PATIENCE_MS = 300_000
RESTS = """() => {
  const busy = document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [aria-label=loading]');
  const charts = [...document.querySelectorAll('[data-testid=stVegaLiteChart]')];
  const titles = [...document.querySelectorAll('[data-testid=stElementContainer]:has(h2)')];
  const empty = charts.some(one => !one.querySelector('canvas, svg')) || titles.some(one => !one.nextElementSibling);
  const now = document.body.scrollHeight + document.body.innerText.replace(/[0-9]/g, '');
  if (busy || empty || window.was !== now) { window.was = now; window.since = Date.now(); }
  const app = document.querySelector('[data-testid=stApp]');
  const runs = app && app.getAttribute('data-test-script-state') !== 'notRunning';
  return Date.now() - window.since > (runs ? 15000 : 500);
}"""
"""Whether a page has had nothing to draw, something below each title, and no new words but figures, for half a second.

Or for fifteen: on a busy machine a page that asks for newer figures may never be done with it.
"""
VIEWS = {
    "now": "",
    "unusual": "unusual",
    "whales": "whales",
    "cases": "cases",
    "rules": "rules",
    "channels": "channels",
    "models": "models",
    "drift": "drift",
    "feed": "feed",
}
"""The dashboard's pages by the name of their picture. That of a transaction has its txid in the address."""
ON_A_PHONE = ("now", "unusual", "whales", "cases")
IN_THE_DARK = ("now",)
BUBBLES = """\
<style>
body {margin: 0; padding: 16px; background: #d6e4ee; font: 15px system-ui, sans-serif; width: 368px}
.message {background: #fff; border-radius: 12px; padding: 8px 12px; margin-bottom: 4px; white-space: pre-wrap}
.time {float: right; color: #8a9ba8; font-size: 12px}
.buttons {display: flex; gap: 4px; margin-bottom: 14px}
.buttons span {flex: 1; background: #8fa8ba; color: #fff; border-radius: 8px; padding: 8px; text-align: center}
a {color: #4b7da0; text-decoration: none}
</style>
"""


@contextmanager
def browser(executable: str) -> Iterator["Camera"]:
    """A headless Chromium for the block."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=PATIENCE_MS)
        try:
            yield Camera(running.new_context(viewport={"width": WIDE, "height": HEIGHT}).new_page())
        finally:
            running.close()


class Camera:
    """Takes pictures of pages, each once it has nothing more to draw."""

    def __init__(self, page: Page) -> None:
        self._page = page
        page.set_default_timeout(PATIENCE_MS)

    def dashboard(
        self, address: str, path: str, width: int, file: Path, *, key: str = "", press: str = "", dark: bool = False
    ) -> None:
        """One page of the dashboard, whole; after a key was typed or a button pressed, if one is named."""
        self._page.emulate_media(color_scheme="dark" if dark else "light")
        self._page.set_viewport_size({"width": width, "height": HEIGHT})
        self._page.goto(f"{address}/{path}")
        self._page.locator("[data-testid=stMain] h1").first.wait_for()
        if key:
            field = self._page.locator("input[aria-label='Your key']")
            field.fill(key)
            field.press("Enter")
        if press:
            self._page.get_by_role("button", name=press).click()
        # A page that asks for newer figures would be pale meanwhile.
        self._page.add_style_tag(content="[data-stale=true] {opacity: 1 !important; transition: none !important}")
        self._rest()
        # The page scrolls within its main part: as high as that is, it is seen whole.
        height = self._page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self._page.set_viewport_size({"width": width, "height": min(max(HEIGHT, int(height) + 60), HIGHEST)})
        self._rest()
        self._page.screenshot(path=file, animations="disabled")

    def lineage(self, address: str, file: Path) -> None:
        """The graph of all assets in Dagster, whole, with every group opened and nothing around it."""
        self._page.set_viewport_size({"width": GRAPH_WIDTH, "height": GRAPH_HEIGHT})
        self._page.goto(f"{address}/asset-groups?" + urlencode({"expanded": ",".join(map(OPENED.format, GROUPS))}))
        self._rest()
        above = self._page.get_by_label("Search and filter assets").first.bounding_box()
        controls = self._page.locator("[aria-label=zoom_in]").bounding_box()
        if above is None or controls is None:
            raise RuntimeError("Dagster's page of the lineage looks otherwise now: see what is around the graph")
        left, top, right = above["x"] - 30, above["y"] + above["height"] + 30, controls["x"] - 20
        clip = {"x": left, "y": top, "width": right - left, "height": GRAPH_HEIGHT - top - BELOW}
        self._page.screenshot(path=file, animations="disabled", clip=clip)

    def report(self, address: str, file: Path) -> None:
        """The head of a drift report."""
        self._page.set_viewport_size({"width": WIDE, "height": HEIGHT})
        self._page.goto(address)
        self._rest()
        self._page.screenshot(path=file, animations="disabled")

    def messages(self, received: Sequence[ReceivedMessage], file: Path) -> None:
        """Messages as a phone shows them, with their buttons."""
        # As high as the messages are: a page is never lower than the window.
        self._page.set_viewport_size({"width": NARROW, "height": 100})
        self._page.set_content(BUBBLES + "".join(map(_bubble, received)))
        self._page.screenshot(path=file, full_page=True)

    def _rest(self) -> None:
        self._page.wait_for_function(RESTS, polling=250)


def _bubble(message: ReceivedMessage) -> str:
    buttons = "".join(f"<span>{label}</span>" for label, _ in message.buttons)
    return (
        f'<div class="message">{message.html}<span class="time">{message.at:%H:%M}</span></div>'
        f'<div class="buttons">{buttons}</div>'
    )


def of_each_kind(received: Sequence[ReceivedMessage], titles: Sequence[str]) -> list[ReceivedMessage]:
    """The last message that begins with each title, of those that there are."""
    found = {title: one for title in titles for one in received if one.buttons and title in one.text[: len(title) + 4]}
    return [found[title] for title in titles if title in found]


def received_by(telegram: str) -> list[ReceivedMessage]:
    """What a local Telegram received, oldest first."""
    answer = httpx.get(f"{telegram}/received", params={"after": 0}, timeout=PATIENCE_MS / 1_000).raise_for_status()
    return msgspec.json.decode(answer.content, type=list[ReceivedMessage])
