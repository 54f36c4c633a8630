"""The instance of several machines is the project's own with another launcher, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import post_process_config, resolve_to_config_type

from blockchain_assets.platform.celery_launcher import WatchedCeleryRunLauncher
from tests.deploy.compose import PROJECT
from txwatch.system.environment import system_environment


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_its_home_gets_the_projects_instance_with_another_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TXWATCH_DAGSTER_YAML", "deploy/celery/dagster.yaml")
    home = Path(system_environment(tmp_path, "postgresql:///watch")["DAGSTER_HOME"])
    changes = load(PROJECT / "deploy/celery/dagster.yaml")
    assert changes.keys() == {"run_launcher"}
    assert load(home / "dagster.yaml") == load(PROJECT / "dagster.yaml") | changes


def test_the_launcher_takes_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXWATCH_BROKER_URL", "redis://127.0.0.1:1/0")
    configuration = load(PROJECT / "deploy/celery/dagster.yaml")["run_launcher"]
    assert configuration["module"] == WatchedCeleryRunLauncher.__module__
    assert configuration["class"] == WatchedCeleryRunLauncher.__name__
    schema = resolve_to_config_type(WatchedCeleryRunLauncher.config_type())
    processed = post_process_config(schema, configuration["config"])
    assert processed.success, processed.errors
    launcher = WatchedCeleryRunLauncher(**(processed.value or {}))
    assert launcher.celery.conf.worker_disable_prefetch is True
    assert launcher.celery.conf.broker_url == launcher.celery.conf.result_backend == "redis://127.0.0.1:1/0"
