"""The coins of alerts that are followed from hop to hop."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Nothing is followed yet: alerts from now on are."""
    op.create_table(
        "followed_coins",
        sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), primary_key=True),
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column("vout", sa.BIGINT, primary_key=True),
        sa.Column("hop", sa.SmallInteger, nullable=False, comment="0 for the alerted transaction's own coin"),
        sa.Column("addr", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("value_sat", sa.BIGINT, nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="of the alerted transaction"),
        comment="coins that what was alerted went to, until they are spent again",
    )
    op.create_index("ix_followed_coins_txid", "followed_coins", ["txid"])
    op.create_index("ix_followed_coins_addr", "followed_coins", ["addr"])
    op.create_index("ix_followed_coins_seen_at", "followed_coins", ["seen_at"])


def downgrade() -> None:
    """Follow nothing."""
    op.drop_table("followed_coins")
