"""Alembic's entry point: runs the migrations over the URL that `txwatch.store.migrate` puts into the configuration."""

import sqlalchemy as sa
from alembic import context

from txwatch.store.schema import metadata

engine = sa.create_engine(context.config.attributes["url"], poolclass=sa.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
