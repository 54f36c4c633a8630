"""Brings the database to the newest schema. `txwatch migrate` runs this; it is safe to run at any time."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from txwatch.store.database import connect
from txwatch.store.locks import Lock, wait_for
from txwatch.store.urls import sqlalchemy_url

LIBRARY_SCHEMAS = ("dagster", "feast", "mlflow")
"""Each library keeps its tables in a schema of its own beside ours, which is `public`."""


def migrate(database_url: str) -> None:
    """Create the schemas of the libraries, and upgrade ours to head, under a lock that makes others wait."""
    with connect(database_url, application="txwatch migrate") as connection, connection.transaction():
        wait_for(connection, Lock.MIGRATION)
        for schema in LIBRARY_SCHEMAS:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        command.upgrade(alembic_config(database_url), "head")


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for one database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = sqlalchemy_url(database_url)
    return config
