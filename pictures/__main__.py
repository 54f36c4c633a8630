"""`python -m pictures` runs a demo from nothing, and takes every picture of the documentation of it.

It takes about ten minutes: the pages are worth a picture once live windows are scored and a drift report is there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from pictures.pages import (
    IN_THE_DARK,
    NARROW,
    ON_A_PHONE,
    PATIENCE_MS,
    VIEWS,
    WIDE,
    Camera,
    browser,
    of_each_kind,
    received_by,
)
from pictures.terminal import Terminal, animated, frames
from txwatch.clock import utc_now
from txwatch.system.environment import API_PORT, DAGSTER_PORT, DASHBOARD_PORT, TELEGRAM_PORT

API, DAGSTER, DASHBOARD, TELEGRAM = (
    f"http://127.0.0.1:{port}" for port in (API_PORT, DAGSTER_PORT, DASHBOARD_PORT, TELEGRAM_PORT)
)
TXWATCH = str(Path(sys.executable).parent / "txwatch")
IMAGES = Path(__file__).parents[1] / "docs/images"
RUNS_FOR_SECONDS = 520
"""A live window is over after five minutes at most, and scored within two more."""
LOOK_SECONDS = 1.0
MOST_SECONDS = 1_800
"""For a demo to come so far, on a slow machine too."""
TITLES = ("Whale", "Fee accident", "Unusual transaction")


def main() -> None:
    """Take all pictures. Ends with 1 where there is no Chromium, or no font for the symbols of alerts."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("There is no Chromium: apt-get install chromium.")
    if not subprocess.check_output(["fc-list", ":lang=und-zsye"]):
        sys.exit("There is no font with the symbols of alerts: apt-get install fonts-noto-color-emoji.")
    with TemporaryDirectory() as home:
        environment = {**os.environ, "TXWATCH_HOME": home}
        with Terminal([TXWATCH, "demo"], environment) as demo:
            wait(demo, lambda: demo.has_written("Model version"))
            scored_at = demo.seconds
            wait(demo, lambda: demo.seconds > RUNS_FOR_SECONDS)
            # The demo's own folder is of this machine, and is shown as it is called otherwise.
            written = [(at, data.replace(home.encode(), b".txwatch")) for at, data in demo.written]
            written.insert(0, (0.0, b"$ make demo\r\n"))
            played = frames(written, until=scored_at + 5, every=1.0, shown=0.2, news=1.5)
            (IMAGES / "demo.svg").write_text(animated(played, "make demo, from the start to the first model"))
            with browser(chromium) as camera:
                take(camera, IMAGES, prepared(environment))


def prepared(environment: dict[str, str]) -> str:
    """Add to the demo what its pages about people show: a rule that alerts. Gives a key of the API."""
    said = ""
    for arguments in ("rules add high-fee", "rules enable high-fee", "keys add visitor --scope manage"):
        said = subprocess.check_output([TXWATCH, *arguments.split()], env=environment, text=True)
    return said.strip()


def take(camera: Camera, folder: Path, key: str) -> None:
    """Take a picture of each page of the demo that runs."""
    for name, path in VIEWS.items():
        more = {"rules": {"press": "Try it on the past"}, "channels": {"key": key}}.get(name, {})
        camera.dashboard(DASHBOARD, until_now(path), WIDE, folder / f"{name}.png", **more)
    for name in ON_A_PHONE:
        camera.dashboard(DASHBOARD, until_now(VIEWS[name]), NARROW, folder / f"{name}-phone.png")
    for name in IN_THE_DARK:
        camera.dashboard(DASHBOARD, until_now(VIEWS[name]), WIDE, folder / f"{name}-dark.png", dark=True)
    for unusual in newest("anomalies", kind="forest"):
        path = f"{until_now('transaction')}&txid={unusual['txid']}"
        # The first question waits for the API to load the model, longer than a page does.
        for about in ("waterfall", "neighbours"):
            httpx.get(f"{API}/v1/transactions/{unusual['txid']}/{about}", timeout=MOST_SECONDS)
        camera.dashboard(DASHBOARD, path, WIDE, folder / "transaction.png")
        camera.dashboard(DASHBOARD, path, NARROW, folder / "transaction-phone.png")
    for report in newest("drift"):
        camera.report(f"{API}/v1/drift/{report['id']}", folder / "drift-report.png")
    camera.lineage(DAGSTER, folder / "lineage.png")
    camera.messages(of_each_kind(received_by(TELEGRAM), TITLES), folder / "alert.png")


def until_now(path: str) -> str:
    """The address of a page that shows the hour until the next minute: one that follows the clock is never done."""
    return f"{path}?until={utc_now() + timedelta(minutes=1):%Y-%m-%dT%H:%M}"


def newest(route: str, **parameters: str) -> list[dict[str, Any]]:
    """The newest row of a list of the API, if there is one."""
    answer = httpx.get(f"{API}/v1/{route}", params={**parameters, "limit": 1}, timeout=PATIENCE_MS / 1_000)
    items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return items


def wait(demo: Terminal, condition: Callable[[], bool]) -> None:
    """Return once the condition holds. Raises RuntimeError if the demo ends before, or takes MOST_SECONDS."""
    while not condition():
        if demo.seconds > MOST_SECONDS:
            raise RuntimeError(f"the demo was not ready for its pictures within {MOST_SECONDS} s")
        if demo.ends_within(LOOK_SECONDS):
            raise RuntimeError("the demo has ended: is another system running here?")


if __name__ == "__main__":
    main()
