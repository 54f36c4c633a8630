"""Which blocks were searched for what a gap misses."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gap_blocks",
        sa.Column("gap_id", sa.BIGINT(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["gap_id"], ["feed_gaps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gap_id", "block_hash"),
        comment="blocks that were searched for what a gap misses, until the gap is settled",
    )


def downgrade() -> None:
    op.drop_table("gap_blocks")
