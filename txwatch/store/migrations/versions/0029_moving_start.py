"""The earliest window of the history beside the first one, which moves, and days that leave the archive."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

EARLIEST = """
UPDATE history_start SET earliest_window = least(
    first_window, (SELECT min(day)::timestamp AT TIME ZONE 'UTC' FROM archived_days)
)
"""


def upgrade() -> None:
    """Until now the start stayed where it was, and the archive began with it."""
    moves = "the first that is a partition; moves with the retention"
    op.alter_column("history_start", "first_window", comment=moves)
    stays = "the first ever; the archive begins with its day"
    op.add_column("history_start", sa.Column("earliest_window", sa.TIMESTAMP(timezone=True), comment=stays))
    op.execute(EARLIEST)
    op.alter_column("history_start", "earliest_window", nullable=False)
    leaves = "when the archive gave the day up; its file goes a day later"
    op.add_column("archived_days", sa.Column("removed_at", sa.TIMESTAMP(timezone=True), comment=leaves))


def downgrade() -> None:
    """The archive begins with the first window again, and keeps every day."""
    op.drop_column("archived_days", "removed_at")
    op.drop_column("history_start", "earliest_window")
    op.alter_column("history_start", "first_window", comment=None)
