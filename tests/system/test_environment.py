"""Every process of the system gets the same home, database and library settings."""

from pathlib import Path

import pytest

from txwatch.settings import Settings
from txwatch.system.entrypoint import GRACE_SECONDS
from txwatch.system.environment import API_PORT, PROJECT, system_environment


def test_all_that_processes_need_is_absolute_and_points_into_one_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TXWATCH_WHALE_BTC", "250")
    environment = system_environment(
        Path("home"), "postgres://somebody:sesame@db.example/watch", TXWATCH_STREAM_URL="ws://127.0.0.1:1/inv"
    )
    assert environment["TXWATCH_HOME"] == str(tmp_path / "home")
    assert environment["DATABASE_URL"] == "postgresql://somebody:sesame@db.example/watch"
    assert environment["DAGSTER_POSTGRES_URL"].startswith("postgresql://somebody:sesame@db.example/watch?")
    assert "search_path%3Ddagster" in environment["DAGSTER_POSTGRES_URL"]
    assert environment["FEAST_DB_NAME"] == "watch"
    assert environment["TXWATCH_STREAM_URL"] == "ws://127.0.0.1:1/inv"
    assert environment["TXWATCH_WHALE_BTC"] == "250", "what was set before stays"
    ends_in = int(environment["DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD"])
    assert ends_in < GRACE_SECONDS, "a code server ends its calls before it is killed"
    configuration = Path(environment["DAGSTER_HOME"]) / "dagster.yaml"
    assert configuration.read_text() == (PROJECT / "dagster.yaml").read_text()


def test_a_setting_given_to_it_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXWATCH_STREAM_URL", "wss://elsewhere.example/inv")
    environment = system_environment(tmp_path, "postgresql:///watch", TXWATCH_STREAM_URL="ws://127.0.0.1:1/inv")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings().stream_url == "ws://127.0.0.1:1/inv"


@pytest.mark.parametrize("variable", sorted(str(field.validation_alias) for field in Settings.model_fields.values()))
def test_no_setting_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A container's TXWATCH_API_URL leads to another container: without it the dashboard has no waterfall."""
    completed = {
        "TXWATCH_HOME": str(tmp_path),
        "DATABASE_URL": "postgresql://h/d",
        "TXWATCH_DAGSTER_YAML": str(PROJECT / "deploy/celery/dagster.yaml"),
    }
    monkeypatch.setenv(variable, completed.get(variable, "as it was set"))
    environment = system_environment(tmp_path, "postgresql://h/d")
    assert environment[variable] == completed.get(variable, "as it was set")


def test_the_defaults_of_the_settings_are_those_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TXWATCH_CODE_HOST", "TXWATCH_CODE_PORT", "TXWATCH_DAGSTER_YAML"):
        monkeypatch.delenv(variable, raising=False)
    settings, environment = Settings(), system_environment(tmp_path, "postgresql://h/d")
    assert settings.api_url == f"http://127.0.0.1:{API_PORT}"
    assert environment["TXWATCH_CODE_HOST"] == settings.code_host
    assert environment["TXWATCH_CODE_PORT"] == str(settings.code_port)
    assert (tmp_path / "dagster/dagster.yaml").read_text() == (PROJECT / settings.dagster_yaml).read_text()
