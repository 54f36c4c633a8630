"""The environment is made from a lock by uv, and by pip where uv cannot be had or fails. Packages are local files."""

import base64
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
WORKS = """#!python
import subprocess, sys

if sys.argv[1] == "pip":
    pinned = sys.argv[sys.argv.index("--no-deps") :]
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *pinned]))
"""
FAILS = """#!python
import sys

sys.exit("no room on the disk" if sys.argv[1] == "pip" else 0)
"""
ABOUT_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BACKEND = f"""
import zipfile

def build_editable(folder, *_):
    with zipfile.ZipFile(f"{{folder}}/example-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("example-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: example\\nVersion: 1\\n")
        wheel.writestr("example-1.dist-info/WHEEL", {ABOUT_WHEEL!r})
        wheel.writestr("example-1.dist-info/RECORD", "")
    return "example-1-py3-none-any.whl"
"""


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Write a wheel of version 1. Returns its line in a lock."""
    info = f"{name}-1.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": ABOUT_WHEEL,
    }
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for inside, text in {**files, **metadata}.items():
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{inside},sha256={digest},{len(text.encode())}\n"
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but pip, which takes longer to make than all the rest."""
    folder = tmp_path_factory.mktemp("empty") / ".venv"
    venv.create(folder, symlinks=True, with_pip=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, empty: Path) -> Path:
    """A project with the real installer, a lock of one package, and an environment to be completed."""
    folder = tmp_path / "project"
    (folder / "deploy").mkdir(parents=True)
    shutil.copy(PROJECT / "deploy/install.py", folder / "deploy")
    (folder / "wheels").mkdir()
    shutil.copytree(empty, folder / ".venv", symlinks=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    (folder / "runtime.lock").write_text(wheel(folder / "wheels", "sample", {"sample.py": "ANSWER = 42\n"}))
    (folder / "requirements-uv.lock").write_text(f"uv==1 --hash=sha256:{'0' * 64}\n")
    return folder


def give_uv(project: Path, program: str) -> None:
    """Let there be a `uv` that does what this program does."""
    script = {"uv-1.data/scripts/uv": program}
    (project / "requirements-uv.lock").write_text(wheel(project / "wheels", "uv", script))


def install(project: Path) -> subprocess.CompletedProcess[str]:
    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels")}
    command = [sys.executable, "deploy/install.py", ".venv", "runtime.lock"]
    return subprocess.run(
        command, cwd=project, env=os.environ | local, capture_output=True, text=True, timeout=300, check=False
    )


def installs(project: Path, by: str) -> str:
    """What is said while the lock is installed by this program. The package is there afterwards."""
    done = install(project)
    assert done.returncode == 0, done.stderr
    assert f"({by})." in done.stderr
    command = [str(project / ".venv/bin/python"), "-c", "import sample; print(sample.ANSWER)"]
    assert subprocess.check_output(command, text=True).strip() == "42"
    return done.stderr


def test_uv_installs_the_lock(project: Path) -> None:
    give_uv(project, WORKS)
    assert "Installed 1 packages in" in installs(project, "uv")


def test_without_uv_pip_does_and_the_environment_is_made(project: Path) -> None:
    shutil.rmtree(project / ".venv")
    assert "uv could not be used" in installs(project, "pip")


@pytest.mark.parametrize(("program", "said"), [(FAILS, "no room on the disk"), ("#!/no/such/interpreter\n", "uv")])
def test_what_a_uv_says_that_fails_or_cannot_run_is_shown_and_pip_goes_on(
    project: Path, program: str, said: str
) -> None:
    give_uv(project, program)
    assert said in installs(project, "pip")


def test_a_package_that_is_not_the_locked_one_ends_it(project: Path) -> None:
    (project / "runtime.lock").write_text(f"sample==1 --hash=sha256:{'0' * 64}\n")
    done = install(project)
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
