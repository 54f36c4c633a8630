"""Alerts, their deliveries, and what paces the requests to Telegram."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_key", sa.Text(), nullable=False, comment="the txid, or system:<condition>:<since>"),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False, comment="most severe first"),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(), nullable=False),
        sa.Column(
            "late",
            sa.Boolean(),
            nullable=False,
            comment="recovered or backfilled: goes to a digest, never out as live",
        ),
        sa.Column("seen_at", _time, nullable=False, comment="of the transaction, or when it was noticed"),
        sa.Column(
            "model_version", sa.Text(), nullable=True, comment="that scored the transaction; NULL for system alerts"
        ),
        sa.Column("created_at", _time, nullable=False),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
        sa.PrimaryKeyConstraint("alert_key"),
    )
    op.create_index("ix_alerts_seen_at", "alerts", ["seen_at"])
    op.create_index("ix_alerts_created_at", "alerts", ["created_at"])
    op.create_table(
        "alert_deliveries",
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("request_id", sa.BIGINT(), nullable=True, comment="of the latest attempt"),
        sa.Column(
            "sent_at",
            _time,
            nullable=True,
            comment="when Telegram confirmed the message, or the digest that names the alert",
        ),
        sa.Column("message_id", sa.BIGINT(), nullable=True, comment="of that message, within the chat"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is not sent, in words"),
        sa.Column("listed_in", sa.BIGINT(), nullable=True, comment="request of the digest that names it as uncertain"),
        sa.Column("shown_through", _time, nullable=True, comment="of the newest update that the message shows"),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'digested', 'uncertain', 'dead')", name="state_is_known"
        ),
        sa.ForeignKeyConstraint(["alert_key"], ["alerts.alert_key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_key", "chat_id"),
    )
    op.create_index("ix_alert_deliveries_request_id", "alert_deliveries", ["request_id"])
    op.create_index(
        "ix_alert_deliveries_open",
        "alert_deliveries",
        ["chat_id", "state"],
        postgresql_where=sa.text("state IN ('pending', 'sending', 'uncertain')"),
    )
    op.create_table(
        "alert_updates",
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("update_key", sa.Text(), nullable=False, comment="kind:<kind>, confirmed:<block>, replaced:<txid>"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.ForeignKeyConstraint(["alert_key"], ["alerts.alert_key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_key", "update_key"),
    )
    op.create_index("ix_alert_updates_created_at", "alert_updates", ["created_at"])
    op.create_table(
        "feedback",
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BIGINT(), nullable=False, comment="Telegram's"),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("given_at", _time, nullable=False),
        sa.CheckConstraint("verdict IN ('useful', 'noise')", name="verdict_is_known"),
        sa.ForeignKeyConstraint(["alert_key"], ["alerts.alert_key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_key", "user_id"),
    )
    op.create_table(
        "telegram_chats",
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column(
            "retry_at",
            _time,
            nullable=True,
            comment="nothing is sent before: Telegram said so, or it could not be reached",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="in a row; the delay grows with them",
        ),
        sa.Column(
            "held_until",
            _time,
            nullable=True,
            comment="muted: all but critical alerts wait, and then go into a digest",
        ),
        sa.Column(
            "quiet_hours", sa.Text(), nullable=True, comment="such as 22:00-07:00 Europe/Berlin; as if muted every day"
        ),
        sa.Column(
            "min_severity", sa.Text(), nullable=True, comment="alerts below it are not delivered here; NULL for all"
        ),
        sa.Column(
            "moved_to",
            sa.Text(),
            nullable=True,
            comment="the id that Telegram gave when the group became a supergroup",
        ),
        sa.PrimaryKeyConstraint("chat_id"),
    )
    op.create_table(
        "telegram_requests",
        sa.Column("id", sa.BIGINT(), sa.Identity(always=False), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("started_at", _time, nullable=False),
        sa.Column("ended_at", _time, nullable=True, comment="NULL while it is under way"),
        sa.CheckConstraint("purpose IN ('alert', 'digest', 'edit', 'reply')", name="purpose_is_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_telegram_requests_started_at", "telegram_requests", ["started_at"])
    op.create_index("ix_telegram_requests_chat_id_started_at", "telegram_requests", ["chat_id", "started_at"])


def downgrade() -> None:
    op.drop_table("telegram_requests")
    op.drop_table("telegram_chats")
    op.drop_table("feedback")
    op.drop_table("alert_updates")
    op.drop_table("alert_deliveries")
    op.drop_table("alerts")
