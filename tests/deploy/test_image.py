"""The image's recipe: pinned, without root, from hashed packages that are a part of the one lock."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy import compose

DOCKERFILE = compose.PROJECT / "deploy/docker/Dockerfile"
IMAGE_LOCK = compose.PROJECT / "deploy/docker/requirements.lock"
LOCK = compose.PROJECT / "requirements-dev.lock"
RUNTIME_LOCK = compose.PROJECT / "requirements.lock"
DEVELOPMENT_ONLY = {"pytest", "mutmut", "moto", "playwright", "ruff", "schemathesis"}


def instructions() -> list[tuple[str, str]]:
    """The recipe's lines as (instruction, rest), joined where they are continued."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if not line.startswith(" ")]


def packages(lock: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Each package of a lock with its version, and its hashes."""
    for entry in re.split(r"\n(?=\S)", lock.read_text()):
        if entry.strip() and not entry.startswith("#"):
            yield entry.split()[0].split(";")[0], frozenset(re.findall(r"sha256:[0-9a-f]{64}", entry))


def test_its_stages_are_on_a_pinned_base_and_leaves_root() -> None:
    found = instructions()
    stages = [rest.split() for name, rest in found if name == "FROM"]
    named = {words[2] for words in stages if len(words) == 3}
    bases = {words[0] for words in stages} - named
    assert len(bases) == 1
    assert all(re.fullmatch(r"python:3\.1[123]\.\d+-slim-\w+", base) for base in bases)
    user = [rest for name, rest in found if name == "USER"]
    assert user == ["10001:10001"]
    assert [name for name, _ in found].index("USER") < [name for name, _ in found].index("ENTRYPOINT")


def test_its_entry_point_is_the_one_that_the_commands_are_tested_with() -> None:
    found = dict(instructions())
    assert json.loads(found["ENTRYPOINT"]) == compose.ENTRYPOINT
    assert json.loads(found["HEALTHCHECK"].partition("CMD")[2])[: len(compose.ENTRYPOINT)] == compose.ENTRYPOINT


def test_what_it_copies_exists_and_is_not_kept_out() -> None:
    kept = {line[1:] for line in (compose.PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, rest in instructions():
        sources = rest.split()[:-1] if name == "COPY" else re.findall(r"type=bind,source=([^,]+)", rest)
        for source in sources:
            assert (compose.PROJECT / source).exists()
            assert source in kept


@pytest.mark.parametrize("part", [IMAGE_LOCK, RUNTIME_LOCK], ids=["image", "runtime"])
def test_its_packages_are_those_of_the_lock_without_the_tools(part: Path) -> None:
    lock, image = dict(packages(LOCK)), dict(packages(part))
    assert all(hashes for hashes in image.values())
    assert {name: lock[name] for name in image} == image
    names = {name.split("==")[0] for name in image}
    assert not names & DEVELOPMENT_ONLY


@pytest.mark.parametrize("lock", [LOCK, IMAGE_LOCK], ids=["all", "image"])
def test_the_lock_holds_what_is_required_and_no_addresses(lock: Path) -> None:
    import tomllib

    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    project = tomllib.loads((compose.PROJECT / "pyproject.toml").read_text())["project"]
    required = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    locked = {name.split("==")[0] for name, _ in packages(lock)}
    assert {Requirement(text).name for text in required} <= locked


def test_a_wheel_holds_everything_that_runs(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=compose.PROJECT, capture_output=True, text=True, check=True
    )
    prefix = tmp_path / "prefix"
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        wheel.extractall(prefix)
    [data] = prefix.glob("*.data/data")
    for name in ("dagster.yaml", "workspace.yaml", "deploy/celery/dagster.yaml"):
        assert (data / "share/txwatch" / name).read_text() == (compose.PROJECT / name).read_text()
    packages_of_wheel = {
        path.relative_to(prefix) for path in prefix.rglob("*") if path.suffix in {".sql", ".yaml", ".mako"}
    }
    for package in ("blockchain_assets", "feature_repo", "resources", "sensors", "txwatch"):
        for suffix in ("*.sql", "*.yaml", "*.mako"):
            for path in (compose.PROJECT / package).rglob(suffix):
                assert path.relative_to(compose.PROJECT) in packages_of_wheel
    # Run from the wheel's own files, with the data where an installation has it.
    show = (
        "import sys; sys.prefix = sys.argv[1]; from txwatch.system.environment import project_file, __file__ as here;"
        "print(here); print(project_file('dagster.yaml').read_text()[:22])"
    )
    found = subprocess.run(
        [sys.executable, "-c", show, str(data)], cwd=prefix, env={"PYTHONPATH": str(prefix)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(prefix))
    assert "# The Dagster instance" in found.stdout


def test_by_its_own_name_too_dagsters_webserver_is_behind_the_guard() -> None:
    """Whoever calls `dagster-webserver` by hand, or by another chart, gets no other server."""
    installed = next(rest for name, rest in instructions() if name == "RUN" and "printf" in rest)
    script = re.search(r"printf '([^']*)' > /opt/txwatch/bin/dagster-webserver\b", installed)
    assert script is not None
    code = script[1].replace("\\n", "\n").partition("\n")[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=compose.PROJECT, capture_output=True, text=True, check=True
    )
    assert "--path-prefix" in done.stdout
    assert "from blockchain_assets.platform.webserver import main\n" in code
