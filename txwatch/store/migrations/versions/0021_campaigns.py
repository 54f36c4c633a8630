"""Campaigns: the pattern of each scored transaction, and which transactions share an alert."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_time = sa.TIMESTAMP(timezone=True)

UNUSUAL_SCORES = """
-- What pages and figures count: of each campaign the transaction that has the alert, and nothing of a shadow's.
CREATE VIEW unusual_scores AS
SELECT *
FROM transaction_scores AS scores
WHERE is_anomaly AND lane <> 'shadow' AND NOT EXISTS (
    SELECT FROM campaign_transactions AS joined WHERE joined.txid = scores.txid AND alert_key <> joined.txid
)
"""


def upgrade() -> None:
    """Alerts that one event raised begin a campaign each, so that what follows joins them."""
    op.add_column(
        "transaction_scores",
        sa.Column("pattern", sa.BIGINT, comment="what it has in common with transactions that are alike"),
    )
    op.create_table(
        "campaign_transactions",
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column(
            "alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("event", sa.Text, nullable=False, comment="dust_storm, forest:<pattern>"),
        sa.Column("seen_at", _time, nullable=False, index=True),
        comment="transactions that are alike, and the one alert about all of them",
    )
    op.create_index("ix_campaign_transactions_event", "campaign_transactions", ["event", "seen_at"])
    op.execute(UNUSUAL_SCORES)
    op.alter_column(
        "alert_updates", "update_key", comment="kind:<kind>, confirmed:<block>, replaced:<txid>, campaign:<size>"
    )
    op.execute(
        "INSERT INTO campaign_transactions"
        " SELECT alert_key, alert_key, 'dust_storm', seen_at FROM alerts WHERE kinds = ARRAY['dust_storm']"
    )


def downgrade() -> None:
    """Forget which transactions were alike."""
    op.execute("DELETE FROM alert_updates WHERE starts_with(update_key, 'campaign:')")
    op.execute("DROP VIEW unusual_scores")
    op.drop_table("campaign_transactions")
    op.drop_column("transaction_scores", "pattern")
