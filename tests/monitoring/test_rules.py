"""The configuration of Prometheus is valid, and each alert rule fires when it should."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.waiting import PATIENCE_SECONDS

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "rules.yml")


def test_alertmanagers_configuration_is_valid() -> None:
    """And sends each alert to a person, but for the heartbeat."""
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed")

    def amtool(*arguments: str) -> str:
        done = subprocess.run(
            ["amtool", *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        if "url_file not found" in done.stdout + done.stderr:
            pytest.skip("this Alertmanager is older than 0.26, which knows no url_file")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    amtool("check-config", "alertmanager.yml")
    for rule in re.findall(r"alert: (\w+)", (MONITORING / "rules.yml").read_text()):
        receiver = amtool("config", "routes", "test", "--config.file=alertmanager.yml", f"alertname={rule}")
        assert receiver == ("heartbeat" if rule == "TxwatchAlarmsWork" else "person")


def test_each_rule_is_quiet_before_and_fires_after() -> None:
    promtool("test", "rules", "rules_test.yml")


def test_each_rule_has_a_test_and_says_what_to_do() -> None:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    tested = {
        case["alertname"]
        for test in yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == set(rules)
    for name, rule in rules.items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["labels"]["severity"] in {"low", "medium", "high", "critical"} or rule["expr"] == "vector(1)", name
        document, _, heading = rule["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^##+ (.+)$", (MONITORING.parents[1] / document).read_text(), re.MULTILINE)
        assert heading in {text.lower().replace(" ", "-") for text in headings}
