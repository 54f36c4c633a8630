"""What one machine runs needs no extra: `make run` installs none."""

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
IMPORT = """
import importlib, sys

without, modules = (names.split() for names in sys.argv[1:])
sys.modules |= dict.fromkeys(without)
for module in modules:
    importlib.import_module(module)
"""


def extras() -> set[str]:
    """The packages of all extras, by the names that imports have."""
    optional = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {package.partition("[")[0].replace("-", "_") for packages in optional.values() for package in packages}


def test_the_instance_the_definitions_and_the_commands_are_imported_without_extras() -> None:
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    named = [instance["storage"]["custom"]["module"], instance["run_launcher"]["module"]]
    processes = ["blockchain_assets.platform.code_server", "blockchain_assets.platform.webserver"]
    modules = [*named, *processes, "blockchain_assets.definitions", "txwatch.cli", "txwatch.system.processes"]
    command = [sys.executable, "-c", IMPORT, " ".join(extras()), " ".join(modules)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
