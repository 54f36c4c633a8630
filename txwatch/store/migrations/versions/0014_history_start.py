"""The first window that there is, in the database instead of a file in each machine's home."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "history_start",
        sa.Column("id", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("first_window", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("history_start")
