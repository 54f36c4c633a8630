"""The tables of people: their keys of the API, what they changed and promoted, and what they did with alerts."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from txwatch.store.schema_feed import metadata as metadata

_time = TIMESTAMP(timezone=True)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True, comment="SHA-256; the key itself is kept nowhere"),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False, comment="of read, score and manage"),
    sa.Column("created_at", _time, nullable=False),
    sa.Column("expires_at", _time),
    sa.Column("revoked_at", _time),
)

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.BIGINT, sa.Identity(), primary_key=True),
    sa.Column("changed_at", _time, nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False, comment="key:<name>, shell:<user> or telegram:<user>"),
    sa.Column("area", sa.Text, nullable=False, comment="rules, channels, labels, cases, keys or models"),
    sa.Column("subject", sa.Text, nullable=False, comment="the name of what was changed"),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, comment="no secret"),
    comment="who changed what; insert-only, kept for good",
)

case_events = sa.Table(
    "case_events",
    metadata,
    sa.Column("id", sa.BIGINT, sa.Identity(), primary_key=True, comment="in the order in which they were told"),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True, comment="of all that follows"),
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", _time, nullable=False),
    sa.Column("who", sa.Text, nullable=False, comment="as in changes"),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("assignee", sa.Text, comment="of assign"),
    sa.Column("verdict", sa.Text, comment="of close"),
    sa.Column("text", sa.Text, comment="of note, and why one was closed"),
    sa.CheckConstraint("action IN ('acknowledge', 'assign', 'note', 'close', 'reopen')", name="action_is_known"),
    sa.CheckConstraint("(action = 'close') = (verdict IS NOT NULL)", name="closed_with_a_verdict"),
    sa.CheckConstraint("verdict IN ('useful', 'noise')", name="verdict_is_known"),
    comment="what people did with an alert; insert-only, kept for good",
)

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", sa.BIGINT, sa.Identity(), primary_key=True),
    sa.Column("asked_at", _time, nullable=False),
    sa.Column("who", sa.Text, nullable=False, comment="as in changes; gate if its checks decided"),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False, comment="that is to score"),
    sa.Column("before", sa.Text, comment="that scored before; NULL if none did"),
    sa.Column("decision", sa.Text, nullable=False, comment="what it was based on, as JSON that may have NaN"),
    sa.Column("settled_at", _time, comment="NULL while nobody knows what became of it"),
    sa.Column("made", sa.Boolean, comment="whether the version became champion; NULL until it is settled"),
    sa.Index("ix_promotions_open", "id", postgresql_where=sa.text("settled_at IS NULL")),
    sa.CheckConstraint("action IN ('promote', 'rollback')", name="action_is_known"),
    sa.CheckConstraint("(settled_at IS NULL) = (made IS NULL)", name="settled_with_an_outcome"),
    comment="who made which model the champion: committed before the registry is told, and settled afterwards",
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "person", sa.Text, primary_key=True, comment="telegram: and a user's or chat's number; else as in changes"
    ),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("chat_id", sa.Text, nullable=False),
    sa.Column("given_at", _time, nullable=False),
    sa.CheckConstraint("verdict IN ('useful', 'noise')", name="verdict_is_known"),
)
