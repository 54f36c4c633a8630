"""Rules of users, with all their versions, and what they matched."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"

_time = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    """There are none yet."""
    op.create_table(
        "rules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, comment="1 for the first; each change adds one"),
        sa.Column("document", JSONB, nullable=False, comment="as it was written, without its mode"),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("changed_at", _time, nullable=False, comment="by the database's clock; it holds from then on"),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, comment="why txwatch itself switched it off"),
        sa.CheckConstraint("mode IN ('active', 'test', 'off')", name="mode_is_known"),
        comment="every version of every rule: rows are added and never changed",
    )
    op.create_table(
        "rule_matches",
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False, comment="of the rule, by which it matched"),
        sa.Column("seen_at", _time, nullable=False, comment="of the transaction"),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False, comment="alert, test, or held back by the cap an hour"),
        sa.Column("alike_seconds", sa.Integer, comment="within which matches of one pattern are one alert"),
        sa.Column("reason", JSONB, nullable=False),
        sa.CheckConstraint("outcome IN ('alert', 'test', 'held')", name="outcome_is_known"),
        comment="transactions that rules matched, each once",
    )
    op.create_index("ix_rule_matches_rule_seen_at", "rule_matches", ["rule", "seen_at"])
    op.create_index("ix_rule_matches_seen_at", "rule_matches", ["seen_at"])


def downgrade() -> None:
    """Forget the rules."""
    op.drop_table("rule_matches")
    op.drop_table("rules")
