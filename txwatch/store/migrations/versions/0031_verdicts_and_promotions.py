"""Verdicts by person, promotions with their intent, and messages of removed channels, which get no updates."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"

_PERSON = "telegram: and a user's or chat's number; else as in changes"
_SHOWN = "that the message shows"
_SHOWN_OR_NOT = "that the message shows; NULL: it gets no more"


def upgrade() -> None:
    """Verdicts of the API, which were one person's, become those of TXWATCH_API_KEY."""
    op.add_column("feedback", sa.Column("person", sa.Text, comment=_PERSON))
    op.execute("UPDATE feedback SET person = CASE user_id WHEN 0 THEN 'key:owner' ELSE 'telegram:' || user_id END")
    op.drop_constraint("feedback_pkey", "feedback")
    op.create_primary_key("feedback_pkey", "feedback", ["alert_key", "person"])
    op.drop_column("feedback", "user_id")
    op.alter_column("alert_deliveries", "shown_updates", nullable=True, comment=_SHOWN_OR_NOT, existing_comment=_SHOWN)
    op.create_table(
        "promotions",
        sa.Column("id", sa.BIGINT, sa.Identity(), primary_key=True),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("who", sa.Text, nullable=False, comment="as in changes; gate if its checks decided"),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False, comment="that is to score"),
        sa.Column("before", sa.Text, comment="that scored before; NULL if none did"),
        sa.Column("decision", sa.Text, nullable=False, comment="what it was based on, as JSON that may have NaN"),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), comment="NULL while nobody knows what became of it"),
        sa.Column("made", sa.Boolean, comment="whether the version became champion; NULL until it is settled"),
        sa.CheckConstraint("action IN ('promote', 'rollback')", name="action_is_known"),
        sa.CheckConstraint("(settled_at IS NULL) = (made IS NULL)", name="settled_with_an_outcome"),
        comment="who made which model the champion: committed before the registry is told, and settled afterwards",
    )
    op.create_index("ix_promotions_open", "promotions", ["id"], postgresql_where=sa.text("settled_at IS NULL"))


def downgrade() -> None:
    """Of several verdicts that were not given at Telegram the newest stays."""
    op.drop_table("promotions")
    op.execute("UPDATE alert_deliveries SET shown_updates = 0 WHERE shown_updates IS NULL")
    op.alter_column("alert_deliveries", "shown_updates", nullable=False, comment=_SHOWN, existing_comment=_SHOWN_OR_NOT)
    op.add_column("feedback", sa.Column("user_id", sa.BIGINT, comment="Telegram's"))
    op.execute(
        "UPDATE feedback SET user_id ="
        " CASE WHEN person ~ '^telegram:-?[0-9]{1,18}$' THEN substr(person, 10)::bigint ELSE 0 END"
    )
    op.execute(
        "DELETE FROM feedback AS former USING feedback AS newer WHERE former.alert_key = newer.alert_key"
        " AND former.user_id = newer.user_id AND (former.given_at, former.person) < (newer.given_at, newer.person)"
    )
    op.drop_constraint("feedback_pkey", "feedback")
    op.create_primary_key("feedback_pkey", "feedback", ["alert_key", "user_id"])
    op.drop_column("feedback", "person")
