"""The network of a source: one of another network does not miss what a block of this one holds."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add it; all sources until now are of the main network, or say so when they are followed again."""
    network = sa.Column("network", sa.Text, nullable=False, server_default="main", comment="by Bitcoin Core's name")
    op.add_column("feed_sources", network)


def downgrade() -> None:
    """Forget it."""
    op.drop_column("feed_sources", "network")
