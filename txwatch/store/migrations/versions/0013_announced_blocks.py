"""Which blocks the feed announced; the sum of a window's amounts without a bound."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "blocks",
        sa.Column("announced", sa.Boolean(), server_default=sa.true(), nullable=False, comment="by the feed"),
    )
    # Until now the time of the block stood for the announcement where there was none.
    op.execute("UPDATE blocks SET announced = false WHERE seen_at = block_time")
    op.alter_column("blocks", "seen_at", comment="when it was announced, else its own time")
    op.alter_column("network_baseline", "value_sat", type_=sa.Numeric())


def downgrade() -> None:
    op.alter_column("network_baseline", "value_sat", type_=sa.Numeric(20, 0))
    op.alter_column("blocks", "seen_at", comment=None)
    op.drop_column("blocks", "announced")
