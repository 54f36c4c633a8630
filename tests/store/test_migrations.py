"""Migrations and table definitions say the same, forwards and back."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from txwatch.store.database import connect
from txwatch.store.migrate import SchemaTooNewError, alembic_config, migrate, read_revision
from txwatch.store.schema import metadata
from txwatch.store.urls import sqlalchemy_url


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


def test_a_chat_becomes_one_identity(database_url: str) -> None:
    migrate(database_url)
    command.downgrade(alembic_config(database_url), "0011")
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO telegram_chats (chat_id, min_severity, moved_to)"
            " VALUES ('-5', 'high', '-1005'), ('@Name', 'low', NULL), ('@NAME', NULL, NULL)"
        )
        connection.execute(
            "INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, created_at)"
            " VALUES ('a', '{whale}', 'high', '[]', false, now(), now())"
        )
        connection.execute(
            "INSERT INTO alert_deliveries (alert_key, chat_id) VALUES ('a', '-5'), ('a', '@Name'), ('a', '@NAME')"
        )
        migrate(database_url)
        chats = 'SELECT chat_id, moved_to IS NULL FROM telegram_chats ORDER BY chat_id COLLATE "C"'
        assert connection.execute(chats).fetchall() == [("-1005", True), ("-5", False), ("@name", True)]
        kept = "SELECT min_severity FROM telegram_chats WHERE chat_id = '-1005'"
        assert connection.execute(kept).fetchone() == ("high",)
        waiting = 'SELECT chat_id FROM alert_deliveries ORDER BY chat_id COLLATE "C"'
        assert connection.execute(waiting).fetchall() == [("-5",), ("@name",)], (
            "the first is taken over when it is served"
        )
    assert differences(database_url) == []
