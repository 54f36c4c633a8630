"""Since when a chat takes no messages, and why; and dead deliveries among those that a digest has to name."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_time = postgresql.TIMESTAMP(timezone=True)
_INDEX = "ix_alert_deliveries_open"


def upgrade() -> None:
    op.add_column(
        "telegram_chats",
        sa.Column("refused_since", _time, nullable=True, comment="the chat takes no messages; NULL while it does"),
    )
    op.add_column(
        "telegram_chats", sa.Column("refusal", sa.Text(), nullable=True, comment="why not, in Telegram's words")
    )
    _open("pending", "sending", "uncertain", "dead")


def downgrade() -> None:
    _open("pending", "sending", "uncertain")
    op.drop_column("telegram_chats", "refusal")
    op.drop_column("telegram_chats", "refused_since")


def _open(*states: str) -> None:
    op.drop_index(_INDEX, "alert_deliveries")
    op.create_index(_INDEX, "alert_deliveries", ["chat_id", "state"], postgresql_where=sa.column("state").in_(states))
