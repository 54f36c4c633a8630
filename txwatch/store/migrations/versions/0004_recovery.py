"""What recovery needs: the endings of gaps, the contents of blocks, and the windows that are to be reported again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _states("open", "ended", "recovered", "lost")
    op.add_column("feed_gaps", sa.Column("ending", sa.Text(), nullable=True, comment="how it ended"))
    op.drop_index(op.f("ix_feed_gaps_started_at"), table_name="feed_gaps")
    op.create_index(op.f("ix_feed_gaps_started_at"), "feed_gaps", ["started_at"], unique=True)
    op.add_column(
        "blocks", sa.Column("prev_hash", sa.Text(), nullable=True, comment="NULL until its contents were fetched")
    )
    op.add_column(
        "blocks",
        sa.Column("stale", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="lost a chain split"),
    )
    op.add_column(
        "blocks",
        sa.Column(
            "fetched_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when its contents were last fetched",
        ),
    )
    op.add_column(
        "blocks",
        sa.Column(
            "mined_count",
            sa.Integer(),
            nullable=True,
            comment="its transactions first seen since the feed is followed",
        ),
    )
    op.add_column(
        "blocks",
        sa.Column(
            "seen_before_count",
            sa.Integer(),
            nullable=True,
            comment="those of them that came by the feed before the block",
        ),
    )
    op.create_table(
        "confirmations",
        sa.Column("txid", sa.Text(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("txid", "block_hash"),
        comment="which blocks hold a transaction; the one that is not stale confirms it",
    )
    op.create_index(op.f("ix_confirmations_block_hash"), "confirmations", ["block_hash"], unique=False)
    op.create_table(
        "late_windows",
        sa.Column("id", sa.BIGINT(), sa.Identity(always=False), nullable=False),
        sa.Column("window_start", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noted_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="windows in which something landed after they may have been sealed, until they are reported again",
    )


def downgrade() -> None:
    op.drop_table("late_windows")
    op.drop_index(op.f("ix_confirmations_block_hash"), table_name="confirmations")
    op.drop_table("confirmations")
    for column in ("seen_before_count", "mined_count", "fetched_at", "stale", "prev_hash"):
        op.drop_column("blocks", column)
    op.drop_index(op.f("ix_feed_gaps_started_at"), table_name="feed_gaps")
    op.create_index(op.f("ix_feed_gaps_started_at"), "feed_gaps", ["started_at"], unique=False)
    op.drop_column("feed_gaps", "ending")
    op.execute("UPDATE feed_gaps SET state = 'ended' WHERE state = 'lost'")
    _states("open", "ended", "recovered")


def _states(*states: str) -> None:
    op.drop_constraint("state_is_known", "feed_gaps")
    op.create_check_constraint("state_is_known", "feed_gaps", sa.column("state").in_(states))
