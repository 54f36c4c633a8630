"""Since when a chat takes no messages and the bot hears none, and one identity for each chat."""

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
    op.create_table(
        "telegram_bot",
        sa.Column("only_one", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("noted_at", _time, nullable=False),
        sa.Column("deaf_since", _time, nullable=True, comment="Telegram gives it no updates; NULL while it does"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why not"),
        sa.CheckConstraint("only_one", name="only_one"),
        sa.PrimaryKeyConstraint("only_one"),
    )
    _open("pending", "sending", "uncertain", "dead")
    # What is known of a chat is kept under its present id, and names are in lower case.
    op.execute(
        "INSERT INTO telegram_chats (chat_id, held_until, quiet_hours, min_severity)"
        " SELECT DISTINCT ON (moved_to) moved_to, held_until, quiet_hours, min_severity FROM telegram_chats"
        " WHERE moved_to IS NOT NULL ORDER BY moved_to, chat_id ON CONFLICT DO NOTHING"
    )
    op.execute(
        "DELETE FROM alert_deliveries AS twice USING alert_deliveries AS kept WHERE twice.chat_id LIKE '@%'"
        " AND twice.alert_key = kept.alert_key AND lower(twice.chat_id) = lower(kept.chat_id)"
        " AND twice.chat_id > kept.chat_id"
    )
    op.execute(
        "DELETE FROM telegram_chats AS twice USING telegram_chats AS kept WHERE twice.chat_id LIKE '@%'"
        " AND lower(twice.chat_id) = lower(kept.chat_id) AND twice.chat_id > kept.chat_id"
    )
    for name in ("alert_deliveries", "telegram_chats", "telegram_requests", "feedback"):
        table = sa.table(name, sa.column("chat_id"))
        named = table.c.chat_id.like("@%")
        op.execute(table.update().where(named).values(chat_id=sa.func.lower(table.c.chat_id)))


def downgrade() -> None:
    _open("pending", "sending", "uncertain")
    op.drop_table("telegram_bot")
    op.drop_column("telegram_chats", "refusal")
    op.drop_column("telegram_chats", "refused_since")


def _open(*states: str) -> None:
    op.drop_index(_INDEX, "alert_deliveries")
    op.create_index(_INDEX, "alert_deliveries", ["chat_id", "state"], postgresql_where=sa.column("state").in_(states))
