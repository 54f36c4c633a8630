"""Scores of the last hours, which the threshold follows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "recent_scores",
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("as_of", _time, nullable=False, comment="the window that was open then; decides two windows later"),
        sa.Column("rows", sa.BIGINT(), nullable=False, comment="scores of the hours before"),
        sa.Column(
            "highest",
            postgresql.ARRAY(sa.Float(precision=53)),
            nullable=False,
            comment="of those scores, the highest first",
        ),
        sa.PrimaryKeyConstraint("model_version", "as_of"),
    )
    op.create_index("ix_recent_scores_as_of", "recent_scores", ["as_of"])


def downgrade() -> None:
    op.drop_table("recent_scores")
