"""The publications that several connections write, until all of them have committed."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """None is under way while tables are changed."""
    op.create_table(
        "open_publications",
        sa.Column("publication", sa.BIGINT, primary_key=True, autoincrement=False, comment="of context_publications"),
        sa.Column("window_start", sa.TIMESTAMP(timezone=True), nullable=False, comment="of its first window"),
        sa.Column("window_end", sa.TIMESTAMP(timezone=True), nullable=False, comment="of its last window"),
        comment="address buckets that are being written, in several database transactions; at most one row",
    )


def downgrade() -> None:
    """Leave nothing half written behind."""
    op.execute(UNDO)
    op.drop_table("open_publications")


UNDO = """
DELETE FROM address_activity USING open_publications
WHERE written = publication;
UPDATE address_activity SET superseded = NULL FROM open_publications
WHERE superseded = publication;
"""
