"""The instance of several machines is the project's own with another launcher, and nothing else."""

from typing import Any

import pytest
import yaml
from dagster._config import post_process_config, resolve_to_config_type

from blockchain_assets.platform.launchers import WatchedCeleryRunLauncher
from tests.deploy.compose import PROJECT


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())
    return loaded


def test_it_differs_from_the_projects_only_where_several_machines_do() -> None:
    several, one = load("deploy/celery/dagster.yaml"), load("dagster.yaml")
    del several["run_launcher"], one["run_launcher"]
    assert several == one


def test_the_launcher_takes_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXWATCH_BROKER_URL", "redis://127.0.0.1:1/0")
    configuration = load("deploy/celery/dagster.yaml")["run_launcher"]
    assert configuration["module"] == WatchedCeleryRunLauncher.__module__
    assert configuration["class"] == WatchedCeleryRunLauncher.__name__
    schema = resolve_to_config_type(WatchedCeleryRunLauncher.config_type())
    processed = post_process_config(schema, configuration["config"])
    assert processed.success, processed.errors
    launcher = WatchedCeleryRunLauncher(**(processed.value or {}))
    assert launcher.celery.conf.worker_disable_prefetch is True
    assert launcher.celery.conf.broker_url == launcher.celery.conf.result_backend == "redis://127.0.0.1:1/0"
