"""The shape of the engine: files without cycles, few and short; a live lane that needs few of them."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest

PROJECT = Path(__file__).parents[1]
MOST_MODULES, MOST_LINES, MOST_OF_THE_LIVE_LANE = 290, 400, 114


@cache
def engine() -> grimp.ImportGraph:
    return grimp.build_graph("txwatch", cache_dir=None)


def files() -> list[Path]:
    """The engine's modules. What a package holds to be one says nothing, and is none."""
    return [path for path in PROJECT.joinpath("txwatch").rglob("*.py") if path.name != "__init__.py"]


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = engine()
    cycles = {
        module
        for module in graph.modules
        if any(
            module in graph.find_upstream_modules(imported)
            for imported in graph.find_modules_directly_imported_by(module)
        )
    }
    assert cycles == set()


def test_modules_are_few_and_none_is_long() -> None:
    assert len(files()) <= MOST_MODULES
    long = {str(path.relative_to(PROJECT)): len(path.read_text().splitlines()) for path in files()}
    assert {name: lines for name, lines in long.items() if lines >= MOST_LINES} == {}


def test_the_live_lane_needs_few_of_them() -> None:
    graph = engine()
    reached = {"txwatch.live.lane", *graph.find_upstream_modules("txwatch.live.lane")}
    packages = {module for module in graph.modules if graph.find_children(module)}
    assert len(reached - packages) <= MOST_OF_THE_LIVE_LANE


def test_every_query_that_is_named_is_there_and_every_one_that_is_there_is_named() -> None:
    code = "".join(path.read_text() for path in files())
    named = set(re.findall(r'statement\(\s*"([\w/]+)",\s*"(\w+)"', code))
    there = {
        (str(path.parent.relative_to(PROJECT / "txwatch")), name)
        for path in PROJECT.joinpath("txwatch").rglob("queries.sql")
        for name in re.findall(r"^-- name: (\w+)$", path.read_text(), re.MULTILINE)
    }
    assert named <= there
    assert {(package, name) for package, name in there - named if f'"{name}"' not in code} == set()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("txwatch.cli", {"numpy", "sqlalchemy", "alembic", "telegram", "mlflow", "dagster"}),
        ("txwatch.system.demo", {"sqlalchemy", "alembic", "telegram", "mlflow", "sklearn", "pandas"}),
        ("txwatch.dashboard.app", {"pandas", "altair", "numpy", "mlflow"}),
    ],
)
def test_what_starts_often_or_stays_for_long_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    looked = f"import sys, {module}; print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-W", "ignore", "-c", looked], cwd=PROJECT, text=True)
    assert heavy & set(imported.split()) == set()
