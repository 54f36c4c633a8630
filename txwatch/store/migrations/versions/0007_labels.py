"""Labels of addresses, the watch list, and the history of whales."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="who says so"),
        sa.Column("entity", sa.Text(), nullable=False, comment="whom it belongs to"),
        sa.Column("category", sa.Text(), nullable=False, comment="exchange, mixing_service, ..., unknown"),
        sa.Column("confidence", sa.Text(), nullable=False, comment="GraphSense's words for it, or unknown"),
        sa.Column("note", sa.Text(), nullable=False, comment="what the source says besides"),
        sa.Column("changed_on", sa.Date(), nullable=True, comment="by the source itself"),
        sa.Column("imported_at", _time, nullable=False, comment="when it last said something else than before"),
        sa.PrimaryKeyConstraint("address", "source"),
    )
    op.create_index("ix_labels_entity", "labels", ["entity"])
    op.create_table(
        "watch_list",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("added_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_table(
        "label_changes",
        sa.Column("id", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("version", sa.BIGINT(), nullable=False, comment="of labels and watch list together"),
        sa.Column("changed_at", _time, nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "whale_moves",
        sa.Column("txid", sa.Text(), nullable=False),
        sa.Column("seen_at", _time, nullable=False),
        sa.Column("moved_sat", sa.BIGINT(), nullable=False, comment="what likely changed hands"),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column(
            "senders", postgresql.ARRAY(sa.Text()), nullable=False, comment="entities that paid, as far as known"
        ),
        sa.Column("receivers", postgresql.ARRAY(sa.Text()), nullable=False, comment="entities that were paid"),
        sa.Column("sources", postgresql.ARRAY(sa.Text()), nullable=False, comment="of the labels that say so"),
        sa.CheckConstraint(
            "flow IN ('exchange_in', 'exchange_out', 'internal_move', 'exchange_to_exchange', 'unknown')",
            name="flow_is_known",
        ),
        sa.PrimaryKeyConstraint("txid"),
    )
    op.create_index("ix_whale_moves_seen_at_txid", "whale_moves", ["seen_at", "txid"])
    op.create_index("ix_whale_moves_flow_seen_at_txid", "whale_moves", ["flow", "seen_at", "txid"])


def downgrade() -> None:
    for table in ("whale_moves", "label_changes", "watch_list", "labels"):
        op.drop_table(table)
