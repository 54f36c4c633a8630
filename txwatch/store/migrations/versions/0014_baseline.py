"""The tables of the first release."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = None

TABLES = Path(__file__).with_name("baseline.sql")


def upgrade() -> None:
    """Create them all."""
    op.get_bind().exec_driver_sql(TABLES.read_text())


def downgrade() -> None:
    """Drop them, with all that they hold."""
    names = sa.inspect(op.get_bind()).get_table_names()
    op.execute(f"DROP TABLE {', '.join(set(names) - {'alembic_version'})}")
    op.execute("DROP SEQUENCE context_publications")
    op.execute("DROP FUNCTION notify_txwatch")
