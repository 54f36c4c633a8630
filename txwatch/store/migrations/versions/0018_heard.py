"""When the feed was heard last, by the database's clock: the times of transactions may lie ahead of it."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the moment; it is unknown until the next transaction."""
    op.add_column(
        "ingest_lease",
        sa.Column("heard_at", sa.TIMESTAMP(timezone=True), comment="when a new transaction was landed last"),
    )


def downgrade() -> None:
    """Forget it."""
    op.drop_column("ingest_lease", "heard_at")
