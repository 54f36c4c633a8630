"""The events of the stream: alerts and their updates, numbered in the order in which they become visible."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

QUEUE = """
-- Whoever inserts alerts or updates queues their events in the same transaction, and gives them no number.
CREATE FUNCTION queue_alerts() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN
    INSERT INTO public.alert_stream (alert_key) SELECT alert_key FROM added ORDER BY created_at, alert_key;
    RETURN NULL;
END$$;

CREATE FUNCTION queue_updates() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN
    INSERT INTO public.alert_stream (alert_key, update_key)
    SELECT alert_key, update_key FROM added ORDER BY created_at, alert_key, update_key;
    RETURN NULL;
END$$;

CREATE TRIGGER queue_alerts AFTER INSERT ON alerts
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION queue_alerts();
CREATE TRIGGER queue_updates AFTER INSERT ON alert_updates
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION queue_updates();
CREATE TRIGGER notify_txwatch AFTER INSERT OR UPDATE ON alert_stream
    FOR EACH STATEMENT EXECUTE FUNCTION notify_txwatch();
"""


def upgrade() -> None:
    """Alerts of before have no number: the stream begins with what comes."""
    op.execute("CREATE SEQUENCE alert_stream_numbers")
    op.create_table(
        "alert_stream",
        sa.Column("id", sa.BIGINT, sa.Identity(), primary_key=True),
        sa.Column("sequence", sa.BIGINT, unique=True, comment="of alert_stream_numbers; NULL until it is published"),
        sa.Column(
            "alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("update_key", sa.Text, comment="of alert_updates; NULL for the alert itself"),
        sa.Column("queued_at", sa.TIMESTAMP(timezone=True), nullable=False, index=True, server_default=sa.func.now()),
        comment="alerts and their updates in the order in which the stream tells them",
    )
    op.create_index("ix_alert_stream_unpublished", "alert_stream", ["id"], postgresql_where=sa.text("sequence IS NULL"))
    op.execute(QUEUE)


def downgrade() -> None:
    """Forget what was told, and in which order."""
    op.execute("DROP TRIGGER queue_updates ON alert_updates")
    op.execute("DROP TRIGGER queue_alerts ON alerts")
    op.drop_table("alert_stream")
    op.execute("DROP FUNCTION queue_updates()")
    op.execute("DROP FUNCTION queue_alerts()")
    op.execute("DROP SEQUENCE alert_stream_numbers")
