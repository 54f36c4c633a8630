"""The libraries' preparations: their tables are there afterwards, and a failure names the log to read."""

import os
from pathlib import Path

import pytest

from tests.conftest import Installation
from txwatch.store.database import connect
from txwatch.system.prepare import Preparation, PreparationError, prepare_database


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """What a preparation leaves."""
    return prepared


def test_each_library_has_its_tables_in_its_own_schema(installation: Installation) -> None:
    with connect(installation.database_url) as connection:
        schemas = dict(
            connection.execute(
                "SELECT table_schema, array_agg(table_name::text) FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') GROUP BY 1"
            ).fetchall()
        )
    assert set(schemas) == {"public", "dagster", "feast", "mlflow"}
    assert "event_logs" in schemas["dagster"]
    assert "feature_views" in schemas["feast"]
    assert "registered_models" in schemas["mlflow"]
    assert "runs" not in schemas["public"]


def test_preparing_the_database_again_keeps_the_day_it_began(database_url: str, tmp_path: Path) -> None:
    prepare_database(tmp_path, database_url)
    began = (tmp_path / "history_start").read_text()
    prepare_database(tmp_path, database_url)
    assert (tmp_path / "history_start").read_text() == began


def test_a_preparation_that_fails_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"Dagster": ["-c", "pass"], "MLflow": ["-c", "import sys; sys.exit('no room for tables')"]}
    monkeypatch.setattr("txwatch.system.prepare.PREPARATIONS", commands)
    with pytest.raises(PreparationError, match=r"MLflow could not be prepared; see .*prepare-mlflow\.log"):
        Preparation(os.environ, tmp_path).wait()
    assert (tmp_path / "prepare-mlflow.log").read_text() == "no room for tables\n"
