"""Which windows the window lane has scored, also those in which the live lane had left it nothing to write."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scored_windows",
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("window_start"),
        comment="windows that the window lane has scored, and by which model last",
    )


def downgrade() -> None:
    op.drop_table("scored_windows")
