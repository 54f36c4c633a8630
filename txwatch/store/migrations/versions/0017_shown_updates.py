"""What a message shows is counted: clocks differ, and what is written first may be committed last."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_time = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    """Count the updates that a message shows, instead of the time of the newest one."""
    op.add_column(
        "alert_deliveries",
        sa.Column("shown_updates", sa.Integer, nullable=False, server_default="0", comment="that the message shows"),
    )
    op.execute(
        "UPDATE alert_deliveries SET shown_updates = (SELECT count(*) FROM alert_updates"
        " WHERE alert_updates.alert_key = alert_deliveries.alert_key AND created_at <= shown_through)"
        " WHERE shown_through IS NOT NULL"
    )
    op.drop_column("alert_deliveries", "shown_through")


def downgrade() -> None:
    """Take the newest of as many updates."""
    op.add_column(
        "alert_deliveries", sa.Column("shown_through", _time, comment="of the newest update that the message shows")
    )
    op.execute(
        "UPDATE alert_deliveries SET shown_through = (SELECT max(created_at) FROM (SELECT created_at FROM alert_updates"
        " WHERE alert_updates.alert_key = alert_deliveries.alert_key ORDER BY created_at LIMIT shown_updates) AS shown)"
        " WHERE shown_updates > 0"
    )
    op.drop_column("alert_deliveries", "shown_updates")
