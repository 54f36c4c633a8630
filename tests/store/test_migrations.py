"""Migrations and table definitions say the same, forwards and back."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

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


def test_a_schema_of_a_newer_program_is_left_alone_in_plain_words(database_url: str) -> None:
    with connect(database_url) as connection:
        known = read_revision(connection)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaTooNewError, match=r"schema is 9999, which this program does not know: .* Install"):
            migrate(database_url)
        assert read_revision(connection) == "9999"
        connection.execute("UPDATE alembic_version SET version_num = %s", [known])
