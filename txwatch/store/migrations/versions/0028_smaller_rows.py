"""Rows that take less: features as real where that is exact enough, with one index, and room that is free at once.

Rewrites `transaction_features` in one transaction: whoever reads it waits, and until the end it needs the space of the
new rows besides that of the old ones.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

BY_ROW = ("transactions", "transaction_scores", "sightings", "spends", "confirmations")
"""The largest tables that lose rows and not partitions."""


def upgrade() -> None:
    """No value of a real differs from the double by more than half its last digit."""
    # The indexes first: they would be made anew with each day's rows.
    op.execute("ALTER TABLE transaction_features DROP CONSTRAINT transaction_features_pkey")
    op.execute("DROP INDEX ix_transaction_features_txid")
    _retype("double precision", "real")
    op.execute("CREATE INDEX ix_transaction_features_seen_at ON transaction_features (seen_at)")
    # A night's deletions are a hundredth of the rows even if 90 days are kept: what they leave is free before the next.
    for table in BY_ROW:
        op.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01)")
    # Days whose rows are here are archived again; the others stay as they were written.
    op.execute(
        "UPDATE archived_days SET changes = changes + 1"
        " WHERE dataset = 'features' AND archived_changes IS NOT NULL AND dropped_at IS NULL"
    )


def downgrade() -> None:
    """The digits that were rounded stay so."""
    for table in BY_ROW:
        op.execute(f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)")
    op.execute("DROP INDEX ix_transaction_features_seen_at")
    _retype("real", "double precision")
    op.execute("ALTER TABLE transaction_features ADD PRIMARY KEY (seen_at, txid)")
    op.execute("CREATE INDEX ix_transaction_features_txid ON transaction_features USING hash (txid)")


def _retype(former: str, kind: str) -> None:
    """Change the type of all but the amounts in satoshi."""
    names = op.get_bind().scalars(
        sa.text(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'transaction_features'::regclass"
            " AND atttypid = CAST(:former AS regtype) AND attname NOT LIKE '%\\_sat%' ORDER BY attnum"
        ),
        {"former": former},
    )
    op.execute(f"ALTER TABLE transaction_features {', '.join(f'ALTER COLUMN {name} TYPE {kind}' for name in names)}")
