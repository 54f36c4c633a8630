"""The web servers as the system starts them: their own pages work, and a page of somebody else's gets nowhere."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from tests.ports import free_port
from tests.waiting import answers, wait_until
from txwatch.system.environment import API_PORT, DAGSTER_PORT, DASHBOARD_PORT, MLFLOW_PORT, PROJECT, system_environment
from txwatch.system.processes import dagster_processes, pages_processes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

JOBS = """
import dagster as dg

@dg.op
def harmless() -> None: ...

@dg.job(executor_def=dg.in_process_executor)
def victim() -> None:
    harmless()

defs = dg.Definitions(jobs=[victim])
"""
LAUNCH = (
    'mutation { launchRun(executionParams: {selector: {repositoryLocationName: "jobs.py",'
    ' repositoryName: "__repository__", jobName: "victim"}, runConfigData: {}}) { __typename } }'
)
HEALTH = {"ui": "/server_info", "mlflow": "/health", "api": "/health/live", "dashboard": "/_stcore/health"}
PORTS = {"ui": DAGSTER_PORT, "mlflow": MLFLOW_PORT, "api": API_PORT, "dashboard": DASHBOARD_PORT}


@contextmanager
def running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """The process for the length of the block."""
    with (
        (folder / "log").open("a") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def command_of(name: str, port: int) -> list[str]:
    """The command by which the system starts this server, on another port; Dagster's over another code location."""
    words = (dagster_processes() | pages_processes(mlflow=True))[name]
    words = [word.replace(str(PORTS[name]), str(port)) for word in words if not word.startswith("--after-port")]
    return [*words[: words.index("-w")], "-f", "jobs.py"] if name == "ui" else words


@pytest.fixture(scope="module")
def doors(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each server by name."""
    home = tmp_path_factory.mktemp("doors")
    environment = system_environment(home, database_url, PYTHONPATH=str(PROJECT)) | {
        "DAGSTER_HOME": str(home / "dagster"),
        "TXWATCH_ALLOWED_HOSTS": "watch.example",
        "TXWATCH_API_KEY": "a-key-for-the-tests-0123456789",
    }
    (home / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for name in HEALTH:
            port = free_port()
            (home / name).mkdir()
            (home / name / "jobs.py").write_text(JOBS)
            found[name] = f"http://127.0.0.1:{port}"
            stack.enter_context(running(command_of(name, port), environment, home / name))
        for name, path in HEALTH.items():
            wait_until(partial(answers, found[name] + path), f"{name} answers")
        yield found


def ask(dagster: str, query: str, **headers: str) -> dict[str, Any]:
    answer = (
        httpx.post(f"{dagster}/graphql", json={"query": query}, headers=headers, timeout=60).raise_for_status().json()
    )
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    return found


def runs(dagster: str) -> int:
    return len(ask(dagster, "{ runsOrError { ... on Runs { results { id } } } }")["runsOrError"]["results"])


@pytest.mark.parametrize("name", HEALTH)
def test_each_server_answers_its_own_pages_and_programs_alone(doors: dict[str, str], name: str) -> None:
    address = doors[name]
    path = "/openapi.json" if name == "api" else "/"
    own = {"Origin": address, "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own, {"Host": "watch.example"}):
        assert httpx.get(address + path, headers=headers, timeout=60).status_code == 200, headers
    foreign = [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    ]
    for headers in foreign:
        for method in ("GET", "POST"):
            assert httpx.request(method, address + path, headers=headers, timeout=60).status_code == 403, headers
    assert httpx.get(address + "/" + "a" * 32_000, timeout=60).status_code == 414
    assert httpx.get(address + HEALTH[name], headers={"Host": "10.0.0.7"}, timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ui", "/graphql"),
        ("mlflow", "/api/2.0/mlflow/experiments/search"),
        ("mlflow", "/api/2.0/mlflow-artifacts/artifacts/x"),
        ("mlflow", "/v1/traces"),
        ("api", "/v1/score"),
        ("dashboard", "/_stcore/upload_file/a/b"),
    ],
)
def test_no_server_keeps_a_body_of_any_length(doors: dict[str, str], name: str, path: str) -> None:
    key = {"Authorization": "Bearer a-key-for-the-tests-0123456789", "Content-Type": "application/json"}
    method = "PUT" if "artifacts" in path or name == "dashboard" else "POST"
    part = b" " * (1 << 20)
    for body in (part * 17, iter([part] * 17)):
        try:
            answer = httpx.request(method, doors[name] + path, content=body, headers=key, timeout=60)
        except httpx.WriteError:
            continue  # the connection was ended before all was sent
        # Some refuse a body before they read it.
        assert answer.status_code in ({413} if isinstance(body, bytes) else {403, 413, 422})


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Host": "evil.example", "Origin": "https://evil.example"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
        ("POST", {"Host": "evil.example"}),
        ("POST", {"Origin": "https://evil.example"}),
        ("POST", {"Origin": "null", "Content-Type": "text/plain"}),
    ],
)
def test_no_page_starts_a_run(doors: dict[str, str], method: str, headers: dict[str, str]) -> None:
    before = runs(doors["ui"])
    answer = httpx.request(method, f"{doors['ui']}/graphql", params={"query": LAUNCH}, headers=headers, timeout=60)
    assert answer.status_code in {403, 405}
    assert runs(doors["ui"]) == before


def test_a_link_to_graphql_shows_where_it_is_written_and_runs_nothing(doors: dict[str, str]) -> None:
    before = runs(doors["ui"])
    page = httpx.get(f"{doors['ui']}/graphql", params={"query": LAUNCH}, headers={"Accept": "text/html"}, timeout=60)
    assert page.status_code == 200
    assert "graphiql" in page.text.lower()
    assert runs(doors["ui"]) == before


def test_the_own_page_starts_a_run(doors: dict[str, str]) -> None:
    before = runs(doors["ui"])
    own = {"Origin": doors["ui"], "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert ask(doors["ui"], LAUNCH, **own)["launchRun"]["__typename"] == "LaunchRunSuccess"
    assert runs(doors["ui"]) == before + 1


def test_subscriptions_are_for_the_own_page(doors: dict[str, str]) -> None:
    url = doors["ui"].replace("http", "ws") + "/graphql"
    with open_websocket(url, origin=doors["ui"], subprotocols=["graphql-ws"]) as websocket:  # type: ignore[arg-type, list-item]
        websocket.send('{"type": "connection_init", "payload": {}}')
        assert "connection_ack" in str(websocket.recv(timeout=60))
    for foreign in ("https://evil.example", "http://127.0.0.1:9"):
        with pytest.raises(InvalidStatus), open_websocket(url, origin=foreign, subprotocols=["graphql-ws"]):  # type: ignore[arg-type, list-item]
            pass


@contextmanager
def foreign_page(html: str, folder: Path) -> Iterator[str]:
    """The address of a page that is not ours, on another port of this machine."""
    (folder / "index.html").write_text(html)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()


ATTACK = """
<img src="%(ui)s/graphql?query=%(launch)s">
<iframe src="%(dashboard)s"></iframe>
<script>
  const told = [];
  const tell = name => answer => told.push(name + " " + (answer && answer.type || answer));
  const blocked = name => () => told.push(name + " blocked");
  const ask = (name, url, how) => fetch(url, how).then(tell(name), blocked(name));
  const body = JSON.stringify({query: decodeURIComponent("%(launch)s")});
  Promise.all([
    ask("get", "%(ui)s/graphql?query=%(launch)s", {mode: "no-cors"}),
    ask("post", "%(ui)s/graphql?query=%(launch)s", {mode: "no-cors", method: "POST", body}),
    ask("json", "%(ui)s/graphql", {method: "POST", body, headers: {"Content-Type": "application/json"}}),
    ask("read", "%(api)s/v1/alerts", {}),
    ask("mlflow", "%(mlflow)s/graphql", {method: "POST", mode: "no-cors", body}),
    ...["%(ui)s/graphql", "%(dashboard)s/_stcore/stream"].map(url => new Promise(done => {
      const socket = new WebSocket(url.replace("http", "ws"), url.includes("graphql") ? "graphql-ws" : "streamlit");
      socket.onopen = () => { told.push("socket opened"); done(); };
      socket.onerror = () => { told.push("socket refused"); done(); };
    })),
  ]).then(() => { document.title = "done"; window.told = told; });
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
def test_in_a_browser_our_pages_work_and_anothers_starts_nothing(doors: dict[str, str], tmp_path: Path) -> None:
    from urllib.parse import quote

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status in {403, 405, 414} else None)
        page.goto(f"{doors['ui']}/locations/__repository__@jobs.py/jobs/victim")
        page.get_by_text("harmless").first.wait_for(timeout=120_000)
        page.goto(doors["dashboard"])
        page.get_by_role("heading", name="Now", exact=True).wait_for(timeout=120_000)
        page.goto(doors["mlflow"])
        page.get_by_text("Experiments").first.wait_for(timeout=120_000)
        page.goto(f"{doors['api']}/docs")
        page.get_by_text("/v1/alerts", exact=True).first.wait_for(timeout=120_000)
        page.wait_for_load_state("networkidle")
        assert refused == []

        page.goto("about:blank")  # what the page before asks for late is no attempt
        before = runs(doors["ui"])
        attempts: list[tuple[str, int]] = []
        page.on("response", lambda answer: attempts.append((answer.url, answer.status)))
        with foreign_page(ATTACK % {**doors, "launch": quote(LAUNCH)}, tmp_path) as url:
            page.goto(url)
            page.wait_for_function("document.title == 'done'", timeout=120_000)
            told = page.evaluate("window.told")
        assert sorted(entry for entry in told if entry.startswith("socket")) == ["socket refused"] * 2
        assert "read blocked" in told
        assert "json blocked" in told
        to_ours = [status for url, status in attempts if url.startswith(tuple(doors.values()))]
        assert to_ours
        assert set(to_ours) <= {403, 405}, attempts
        assert runs(doors["ui"]) == before
        browser.close()
