"""Edits whose outcome nobody knows, which let others go first."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """None is known to be one."""
    comment = "when its last edit ended, if nobody knows whether it was made"
    op.add_column("alert_deliveries", sa.Column("edit_unknown_at", sa.TIMESTAMP(timezone=True), comment=comment))


def downgrade() -> None:
    """Each is tried as soon as others."""
    op.drop_column("alert_deliveries", "edit_unknown_at")
