"""The wheel in an environment of its own, in an empty folder: what `pipx install txwatch && txwatch demo` does."""

import json
import re
import socket
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.deploy.compose import PROJECT
from tests.deploy.processes import quiet_environment
from txwatch.system.environment import DEMO_PORTS, PORTS

DEMO_SECONDS = 20


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel, and the packages that it asks for from this one.

    Installing those anew would need a registry. This environment's own installation of the project is not seen: a
    folder that a .pth file names is searched for packages, but not for further .pth files.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    wheel = folder / done.stdout.split()[-1]
    venv.create(folder / "venv", symlinks=True, with_pip=True)
    python = folder / "venv/bin/python"
    [own] = (folder / "venv/lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(str(Path(distribution("dagster").locate_file(""))))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", wheel]
    subprocess.run(install, check=True, capture_output=True, env=quiet_environment())
    return folder / "venv"


def txwatch(environment: Path, folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in quiet_environment().items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        [environment / "bin/txwatch", *arguments], cwd=folder, env=clean | settings, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_it_is_the_wheel_that_runs_and_finds_dagsters_files(environment: Path, tmp_path: Path) -> None:
    show = "import txwatch.system.environment as e; print(e.__file__); print(e.project_file('workspace.yaml'))"
    said = subprocess.check_output([environment / "bin/python", "-c", show], cwd=tmp_path, text=True, env={}).split()
    assert all(Path(path).exists() and path.startswith(str(environment)) for path in said)
    done = txwatch(environment, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_the_wheel_says_its_version_and_where_it_comes_from(environment: Path) -> None:
    [metadata] = environment.glob("lib/*/site-packages/txwatch-*.dist-info/METADATA")
    version = re.search(r'^version = "(.*)"', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"\nVersion: {version[1]}\n" in metadata.read_text()


@pytest.mark.soak
def test_the_demo_runs_from_the_wheel_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    for port in {**PORTS, **DEMO_PORTS}.values():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} of this machine is in use")
    done = txwatch(environment, tmp_path, "demo", f"--seconds={DEMO_SECONDS}", "--rate=20")
    # 1 says that so short a demo did not reach all; 2 would be an error.
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    result = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    assert result["first_live_s"] is not None, result
    assert {path.name for path in tmp_path.iterdir()} == {".txwatch"}
