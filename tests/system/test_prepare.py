"""The libraries' preparations: their tables are there afterwards, and a failure names the log to read."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import T0
from tests.conftest import Installation, copied_database
from txwatch.clock import utc_now
from txwatch.detection.registry import ModelRegistry, table_migrations
from txwatch.store.database import connect, sqlalchemy_url, with_schema
from txwatch.store.history_start import HistoryStart, read_history_start
from txwatch.store.migrate import NEWER, SchemaTooNewError, read_revision
from txwatch.system.doctor import look_at_server
from txwatch.system.findings import Level
from txwatch.system.launch import Preparation, PreparationError, prepare_database, upgrade_mlflow


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


def test_preparing_the_database_again_keeps_the_start_unless_another_is_wanted(
    database_url: str, tmp_path: Path
) -> None:
    def start(wanted: datetime | None = None) -> datetime | None:
        prepare_database(tmp_path, database_url, wanted)
        with connect(database_url) as connection:
            recorded = read_history_start(connection)
            return recorded and recorded.first_window

    first, today = start(), utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert first in (today, today - timedelta(days=1))
    assert start() == first
    later = T0 + timedelta(days=1, seconds=7)
    assert start(later) == T0 + timedelta(days=1), "a window's start"
    assert start() == T0 + timedelta(days=1), "a machine without the setting takes nothing back"
    assert start(T0.replace(tzinfo=None)) == T0


def test_a_start_that_an_older_version_kept_in_a_file_stays(server_url: str, tmp_path: Path) -> None:
    url = copied_database(server_url, "template_txwatch")
    (tmp_path / "history_start").write_text("2026-03-01T00:00:00+00:00\n")
    prepare_database(tmp_path, url, None)
    with connect(url) as connection:
        recorded = datetime(2026, 3, 1, tzinfo=UTC)
        assert read_history_start(connection) == HistoryStart(recorded, recorded)


def test_a_preparation_that_fails_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"Dagster": ["-c", "pass"], "MLflow": ["-c", "import sys; sys.exit('no room for tables')"]}
    monkeypatch.setattr("txwatch.system.launch.PREPARATIONS", commands)
    with pytest.raises(PreparationError, match=r"MLflow could not be prepared; see .*prepare-mlflow\.log: no room"):
        Preparation(os.environ, tmp_path).wait()
    assert (tmp_path / "prepare-mlflow.log").read_text() == "no room for tables\n"


@pytest.fixture
def behind(server_url: str) -> str:
    """A database in which MLflow's tables are of the revision before its newest."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    url = copied_database(server_url, "template_txwatch")
    engine = sa.create_engine(with_schema(sqlalchemy_url(url), "mlflow"), poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    scripts, config = table_migrations(), _get_alembic_config("")
    newest = scripts.get_revision(scripts.get_current_head())
    assert newest is not None
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, str(newest.down_revision))
    return url


def test_mlflows_tables_of_an_older_version_are_upgraded_and_of_a_newer_one_left_alone(
    behind: str, tmp_path: Path
) -> None:
    def said() -> list[tuple[Level, str]]:
        findings = look_at_server(behind)
        return [(found.level, found.remedy) for found in findings if found.text.startswith("MLflow's schema")]

    newest = table_migrations().get_current_head()
    assert said() == [(Level.wrong, "run txwatch migrate")]
    upgrade_mlflow(behind)
    with connect(behind) as connection:
        assert read_revision(connection, "mlflow") == newest
        assert said() == [(Level.good, "")]
        ModelRegistry.of(tmp_path, behind, None).prepare()

        connection.execute("UPDATE mlflow.alembic_version SET version_num = 'from-the-future'")
        with pytest.raises(SchemaTooNewError, match="MLflow's schema is from-the-future, which this program does not"):
            upgrade_mlflow(behind)
        assert said() == [(Level.wrong, NEWER)]
        assert read_revision(connection, "mlflow") == "from-the-future"


def test_a_start_upgrades_mlflows_tables(behind: str, tmp_path: Path) -> None:
    ModelRegistry.of(tmp_path, behind, None).prepare()
    with connect(behind) as connection:
        assert read_revision(connection, "mlflow") == table_migrations().get_current_head()


def test_a_database_without_mlflows_tables_gets_none(server_url: str) -> None:
    url = copied_database(server_url, "template_txwatch")
    upgrade_mlflow(url)
    with connect(url) as connection:
        assert read_revision(connection, "mlflow") is None
