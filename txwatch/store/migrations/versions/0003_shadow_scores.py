"""Scores in shadow: what a challenger says of the traffic that the champion scores."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("lane_is_known", "transaction_scores")
    op.create_check_constraint("lane_is_known", "transaction_scores", "lane IN ('live', 'window', 'shadow')")
    op.alter_column("transaction_scores", "lane", comment="live, window or shadow", existing_comment="live or window")


def downgrade() -> None:
    op.execute("DELETE FROM transaction_scores WHERE lane = 'shadow'")
    op.drop_constraint("lane_is_known", "transaction_scores")
    op.create_check_constraint("lane_is_known", "transaction_scores", "lane IN ('live', 'window')")
    op.alter_column("transaction_scores", "lane", comment="live or window", existing_comment="live, window or shadow")
