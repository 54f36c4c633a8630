"""Migrations and table definitions say the same, forwards and back."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from txwatch.alerts.store import record_verdict
from txwatch.clock import utc_now
from txwatch.store.database import connect, sqlalchemy_url
from txwatch.store.migrate import SchemaTooNewError, alembic_config, migrate, read_revision
from txwatch.store.schema import metadata


def differences(database_url: str) -> list[object]:
    engine = sa.create_engine(sqlalchemy_url(database_url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def test_the_migrated_schema_is_the_defined_one(database_url: str) -> None:
    assert differences(database_url) == []


def test_migrating_again_changes_nothing_and_down_removes_all(database_url: str) -> None:
    migrate(database_url)
    assert differences(database_url) == []
    command.downgrade(alembic_config(database_url), "base")
    engine = sa.create_engine(sqlalchemy_url(database_url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    migrate(database_url)
    assert differences(database_url) == []


def test_verdicts_of_before_are_kept_by_person(database_url: str) -> None:
    config = alembic_config(database_url)
    command.downgrade(config, "0031-1")
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, created_at)"
            " VALUES ('a', '{whale}', 'high', '[]', false, now(), now())"
        )
        connection.execute(
            "INSERT INTO feedback (alert_key, user_id, verdict, chat_id, given_at)"
            " VALUES ('a', 0, 'noise', 'api', now()), ('a', 5, 'useful', '42', now())"
        )
    verdicts = "SELECT person, verdict FROM feedback ORDER BY person"
    try:
        migrate(database_url)
        with connect(database_url) as connection:
            assert connection.execute(verdicts).fetchall() == [("key:owner", "noise"), ("telegram:5", "useful")]
            record_verdict(connection, "a", "useful", utc_now(), "key:alice")
        command.downgrade(config, "0031-1")
        with connect(database_url) as connection:
            kept = connection.execute("SELECT user_id, verdict FROM feedback ORDER BY user_id").fetchall()
        assert kept == [(0, "useful"), (5, "useful")], "the newest"
    finally:
        migrate(database_url)
        with connect(database_url) as connection:
            connection.execute("TRUNCATE alerts CASCADE")


def test_a_schema_of_a_newer_program_is_left_alone_in_plain_words(database_url: str) -> None:
    with connect(database_url) as connection:
        known = read_revision(connection)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaTooNewError, match=r"schema is 9999, which this program does not know: .* Install"):
            migrate(database_url)
        assert read_revision(connection) == "9999"
        connection.execute("UPDATE alembic_version SET version_num = %s", [known])
