"""What the README says exists: settings, commands, make targets, files, ports."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from txwatch.cli import app
from txwatch.reference.settings import README, in_readme
from txwatch.settings import Settings
from txwatch.system.entrypoint import PASSWORD
from txwatch.system.environment import PORTS

PROJECT = Path(__file__).parents[1]
TEXT = README.read_text()


def test_its_settings_are_those_of_the_class() -> None:
    """`python -m txwatch.reference` writes them."""
    assert in_readme(TEXT) == TEXT


def test_every_variable_that_the_program_reads_is_a_setting() -> None:
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    files = [PROJECT / "dagster.yaml", PROJECT / "workspace.yaml", PROJECT / "deploy/celery/dagster.yaml"]
    for folder in ("txwatch", "blockchain_assets", "feature_repo", "resources", "sensors"):
        files += (PROJECT / folder).rglob("*.py")
    named = {name for file in files for name in re.findall(r"\bTXWATCH_[A-Z_]+\b", file.read_text())}
    assert named <= settings
    assert PASSWORD in settings


def test_its_commands_and_options_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    named = re.findall(r"`txwatch ([a-z]+)([^`]*)`", TEXT)
    assert {name for name, _ in named} >= {"demo", "run", "ingest", "status", "evaluate", "record", "api"}
    for name, rest in named:
        assert name in commands, name
        command = commands[name]
        if words := re.findall(r"[a-z]+", rest) if hasattr(command, "commands") else []:
            command = command.commands[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", rest)) <= options, name


def test_every_command_is_in_it() -> None:
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`txwatch {name}" in TEXT, name


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)(?:`|$)", TEXT, re.MULTILINE)) <= targets


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_what_it_links_to_is_there(target: str) -> None:
    assert (PROJECT / target).exists()


def test_its_ports_are_those_of_the_system() -> None:
    assert {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", TEXT)} <= set(PORTS.values())
