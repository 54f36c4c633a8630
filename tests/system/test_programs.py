"""`txwatch exec` gives a program the installation's database and Dagster instance, and what it is asked to do."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import Installation
from txwatch.cli import app
from txwatch.errors import UserError
from txwatch.system.environment import PROJECT


def execute(*command: str) -> Result:
    return CliRunner().invoke(app, ["exec", *command])


def test_a_program_has_the_systems_environment_and_its_own_options(
    installation: Installation, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # of a shell in which nothing was activated
    code = "import json, os, sys; print(json.dumps([os.environ['DATABASE_URL'], os.environ['DAGSTER_HOME'], sys.argv]))"
    done = execute(Path(sys.executable).name, "-c", code, "--json", "--help")
    assert done.exit_code == 0, done.output
    url, home, arguments = json.loads(capfd.readouterr().out)
    assert url == installation.database_url
    assert (Path(home) / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()
    assert arguments == ["-c", "--json", "--help"]
    assert execute(Path(sys.executable).name, "-c", "raise SystemExit(3)").exit_code == 3
    missing = execute("no-such-program")
    assert isinstance(missing.exception, UserError)
    assert str(missing.exception) == "no-such-program cannot be run: No such file or directory"


@pytest.mark.usefixtures("installation")
def test_dg_checks_and_lists_the_definitions(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_dg_cli", reason="dg is not installed")
    monkeypatch.chdir(PROJECT)
    assert execute("dg", "check", "defs").exit_code == 0
    assert "All definitions loaded successfully" in capfd.readouterr().out
    assert execute("dg", "list", "defs", "--json").exit_code == 0
    listed = json.loads(capfd.readouterr().out)
    assert {"transactions", "transaction_scores", "drift_report"} <= {asset["asset_key"] for asset in listed["assets"]}
    assert {"landing_sensor", "freshness_sensor"} <= {sensor["name"] for sensor in listed["sensors"]}
