"""Channels: webhooks and the services of apprise beside Telegram's chats, with one outbox for all."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_time = sa.TIMESTAMP(timezone=True)
_RENAMED = (
    ("TABLE", "telegram_chats", "channels"),
    ("TABLE", "telegram_requests", "channel_requests"),
    ("INDEX", "telegram_chats_pkey", "channels_pkey"),
    ("INDEX", "telegram_requests_pkey", "channel_requests_pkey"),
    ("INDEX", "ix_telegram_requests_started_at", "ix_channel_requests_started_at"),
    ("INDEX", "ix_telegram_requests_chat_id_started_at", "ix_channel_requests_channel_started_at"),
    ("SEQUENCE", "telegram_requests_id_seq", "channel_requests_id_seq"),
)
"""Old and new."""
_OF_A_CHANNEL = ("channels", "channel_requests", "alert_deliveries")
"""Tables with the column `channel`, which was `chat_id`."""
_DELETE_OF_OTHERS = (
    "DELETE FROM alert_deliveries AS of USING channels WHERE channels.channel = of.channel AND kind <> 'telegram'",
    "DELETE FROM channel_requests AS of USING channels WHERE channels.channel = of.channel AND kind <> 'telegram'",
)
_FORMER_NAME = "the channel, by the name that others read"
_COMMENTS: dict[tuple[str, str], tuple[str, str | None]] = {
    ("alert_deliveries", "channel"): ("a chat's id at Telegram, or a channel's name", None),
    ("alert_deliveries", "sent_at"): (
        "when the message was confirmed, or the digest that names the alert",
        "when Telegram confirmed the message, or the digest that names the alert",
    ),
    ("channels", "channel"): ("a chat's id at Telegram, or a name", None),
    ("channels", "retry_at"): (
        "nothing is sent before: it said so, or could not be reached",
        "nothing is sent before: Telegram said so, or it could not be reached",
    ),
    ("channels", "refused_since"): (
        "it takes no messages; NULL while it does",
        "the chat takes no messages; NULL while it does",
    ),
    ("channels", "refusal"): ("why not, in words", "why not, in Telegram's words"),
}
"""New and old."""


def upgrade() -> None:
    """Every chat becomes a channel, with its settings and its deliveries."""
    for what, former, present in _RENAMED:
        op.execute(f"ALTER {what} {former} RENAME TO {present}")
    for table in _OF_A_CHANNEL:
        op.alter_column(table, "chat_id", new_column_name="channel")
    for (table, named), (new, old) in _COMMENTS.items():
        op.alter_column(table, named, comment=new, existing_comment=old)
    op.add_column("alert_deliveries", sa.Column("chat_id", sa.Text, sa.Computed("channel"), comment=_FORMER_NAME))
    for column in (
        sa.Column("kind", sa.Text, nullable=False, server_default="telegram"),
        sa.Column("shown_as", sa.Text, comment="where it leads, without its secrets; NULL for Telegram"),
        sa.Column("kinds", sa.ARRAY(sa.Text), comment="only alerts of one of these are delivered here; NULL for all"),
        sa.Column("digest_every", sa.Interval, comment="all but critical alerts go into digests so far apart"),
        sa.Column("disabled_at", _time, comment="since then it gets no alerts; NULL while it does"),
    ):
        op.add_column("channels", column)
    op.create_check_constraint("kind_is_known", "channels", "kind IN ('telegram', 'webhook', 'apprise')")
    op.drop_constraint("purpose_is_known", "channel_requests")
    op.create_check_constraint(
        "purpose_is_known", "channel_requests", "purpose IN ('alert', 'digest', 'edit', 'reply', 'test')"
    )
    op.create_table(
        "channel_secrets",
        sa.Column("channel", sa.Text, sa.ForeignKey("channels.channel", ondelete="CASCADE"), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, comment="that signs what goes to a webhook; NULL for others"),
        sa.Column("former_secret", sa.Text, comment="that signs besides, while receivers change to the new one"),
        sa.Column("former_until", _time, comment="until when it does"),
        comment="what must not be shown of channels",
    )


def downgrade() -> None:
    """Forget all channels but Telegram's chats, and what waits for them."""
    op.drop_table("channel_secrets")
    op.drop_column("alert_deliveries", "chat_id")
    for delete in _DELETE_OF_OTHERS:
        op.execute(delete)
    op.execute("DELETE FROM channel_requests WHERE purpose = 'test'")
    op.execute("DELETE FROM channels WHERE kind <> 'telegram'")
    op.drop_constraint("purpose_is_known", "channel_requests")
    op.create_check_constraint(
        "purpose_is_known", "channel_requests", "purpose IN ('alert', 'digest', 'edit', 'reply')"
    )
    for column in ("disabled_at", "digest_every", "kinds", "shown_as", "kind"):
        op.drop_column("channels", column)
    for (table, named), (new, old) in _COMMENTS.items():
        op.alter_column(table, named, comment=old, existing_comment=new)
    for table in _OF_A_CHANNEL:
        op.alter_column(table, "channel", new_column_name="chat_id")
    for what, former, present in _RENAMED:
        op.execute(f"ALTER {what} {present} RENAME TO {former}")
