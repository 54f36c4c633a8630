"""A real Prometheus scrapes the running API: every target is up, every rule evaluates, every Grafana query is valid."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import yaml

from tests.populated import Populated
from tests.ports import free_port
from tests.serving import serving, settings_of
from tests.waiting import PATIENCE_SECONDS, wait_until

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")


@pytest.fixture(scope="module")
def prometheus(populated: Populated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus with our configuration, but for its ports and the interval, over the API and a Dagster's runs."""
    folder = tmp_path_factory.mktemp("prometheus")
    with psycopg.connect(populated.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS dagster.runs (run_id text, pipeline_name text, status text)")
        connection.execute("INSERT INTO dagster.runs VALUES ('1', 'score_windows', 'SUCCESS')")
        connection.execute("INSERT INTO telegram_bot (noted_at) VALUES (now()) ON CONFLICT DO NOTHING")
    with serving(settings_of(populated.database_url, populated.home)) as address:
        port = free_port()
        configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(MONITORING / "rules.yml")]
        targets = {"txwatch": urlsplit(address).netloc, "prometheus": f"127.0.0.1:{port}"}
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets.pop(job["job_name"])]}]
        assert not targets
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:

                def scraped() -> bool:
                    try:
                        found = query(client, "sum(up)")
                        rates = query(client, 'rate(txwatch_http_requests_total{route="/metrics"}[5m])')
                    except httpx.TransportError:
                        return False
                    return bool(found) and float(found[0]["value"][1]) == 2 and bool(rates)

                wait_until(scraped, "every target is scraped")
                yield client
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """What an expression gives now. A Prometheus that still starts gives nothing."""
    answer = client.get("/api/v1/query", params={"query": expression})
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, f"{expression}: {answer.text}"
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result


def grafana_queries() -> list[tuple[str, str]]:
    found = []
    for path in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def test_every_target_is_up(prometheus: httpx.Client) -> None:
    def healths() -> dict[str, str]:
        targets = prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
        return {t["labels"]["job"]: t["health"] for t in targets}

    wait_until(lambda: healths() == {"txwatch": "up", "prometheus": "up"}, "both are up")


def test_every_rule_evaluates(prometheus: httpx.Client) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule is evaluated")
    assert {rule["name"]: rule["health"] for rule in rules()} == {rule["name"]: "ok" for rule in rules()}
    assert len(rules()) >= 15


def test_every_metric_that_a_rule_or_a_panel_names_exists(prometheus: httpx.Client) -> None:
    names = set(prometheus.get("/api/v1/label/__name__/values").json()["data"])
    rules = (MONITORING / "rules.yml").read_text()
    text = rules + " ".join(expression for _, expression in grafana_queries())
    named = set(re.findall(r"\btxwatch_[a-z0-9_]+", text))
    assert named - names == set()


# No server error was answered, and that is well: these may be empty.
MAY_BE_EMPTY = {"api: Errors of the server", "api: Refused"}


@pytest.mark.parametrize(("panel", "expression"), grafana_queries(), ids=lambda value: value[:40])
def test_every_panel_of_grafana_has_a_valid_query(prometheus: httpx.Client, panel: str, expression: str) -> None:
    found = query(prometheus, expression)
    assert found or panel in MAY_BE_EMPTY


def test_dashboards_are_whole() -> None:
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for path in (MONITORING / "grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        assert board["uid"].startswith("txwatch-")
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == source[0]["uid"], panel["title"]
