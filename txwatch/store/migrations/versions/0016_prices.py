"""Prices in USD: what was told of them, and the one that holds for each alert and each whale."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_time = sa.TIMESTAMP(timezone=True)

PRICE_AT = """
-- The price that was known at a moment, if it was no older than an hour then: no row, or one.
CREATE FUNCTION usd_price_at(moment timestamptz) RETURNS SETOF usd_prices
LANGUAGE sql STABLE AS $$
SELECT * FROM (SELECT * FROM usd_prices WHERE noted_at <= moment ORDER BY noted_at DESC LIMIT 1) AS newest
WHERE told_at > moment - interval '1 hour'
$$
"""


def upgrade() -> None:
    """Alerts and whales of before have no price."""
    op.create_table(
        "usd_prices",
        sa.Column("noted_at", _time, primary_key=True, comment="from when on it is used"),
        sa.Column("told_at", _time, nullable=False, comment="when it held, by its source"),
        sa.Column("usd", sa.Float(53), nullable=False, comment="for one bitcoin"),
        sa.Column("source", sa.Text, nullable=False),
        sa.CheckConstraint("usd > 0 AND usd < 'Infinity'", name="usd_is_a_price"),
        comment="what a bitcoin was worth, at most one row in five minutes",
    )
    op.execute(PRICE_AT)
    for table in ("alerts", "whale_moves"):
        op.add_column(
            table, sa.Column("usd_price", sa.Float(53), comment="of a bitcoin when it was seen; NULL if unknown")
        )
    op.add_column("alerts", sa.Column("usd_price_at", _time, comment="when that price held"))


def downgrade() -> None:
    """Prices are lost."""
    op.drop_column("alerts", "usd_price_at")
    for table in ("alerts", "whale_moves"):
        op.drop_column(table, "usd_price")
    op.execute("DROP FUNCTION usd_price_at(timestamptz)")
    op.drop_table("usd_prices")
